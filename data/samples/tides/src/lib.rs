//! Heights of the tide as a sum of harmonic constituents.

/// One constituent: amplitude in metres, speed in degrees per hour, phase in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constituent {
    pub amplitude: f64,
    pub speed: f64,
    pub phase: f64,
}

impl Constituent {
    /// The height that this constituent alone adds at a given hour.
    pub fn height(&self, hour: f64) -> f64 {
        let angle = (self.speed * hour - self.phase).to_radians();
        self.amplitude * angle.cos()
    }
}

/// The height of the water above its mean level.
pub fn height(constituents: &[Constituent], hour: f64) -> f64 {
    constituents.iter().map(|part| part.height(hour)).sum()
}

/// The first whole hour of the day at which the water stands highest.
pub fn high_water(constituents: &[Constituent]) -> usize {
    let mut best = 0;
    for hour in 1..24 {
        if height(constituents, hour as f64) > height(constituents, best as f64) {
            best = hour;
        }
    }
    best
}
