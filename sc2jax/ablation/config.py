"""Settings of an ablation: which runs it consists of, and what is made of them."""

import dataclasses

from sc2jax.errors import UserError
from sc2jax.settings import check_ranges, setting

SUMMARY, ISOFLOP = "none", "isoflop"


@dataclasses.dataclass(frozen=True)
class AblationConfig:
    """The runs of an ablation, as overrides over one base config."""

    variants: tuple[str, ...] = setting(
        (),
        "The runs as overrides, the first of which the others are compared with: 'LABEL: KEY=VALUE KEY=VALUE', each "
        "value as on the command line, or 'LABEL:' for the base as it is.",
        decides=False,
    )
    grid: tuple[str, ...] = setting(
        (),
        "Keys with the values that they take, 'KEY=A|B|C': every combination of them is a run, of each variant.",
        decides=False,
    )
    seeds: tuple[int, ...] = setting(
        (0,),
        "Seeds of training: the parameters, the order of rows and what is drawn in documents. The corpus, the "
        "tokenizer and the held-out text that is measured keep the base's seed.",
        at_least=0,
        less_than=2**31,
        decides=False,
    )
    fit: str = setting(
        SUMMARY,
        "What is fitted to the scores: none, or isoflop (runs of equal training FLOPs are a budget; a parabola over "
        "the logarithm of their parameters gives its best size, and a power law that of any budget).",
        choices=(SUMMARY, ISOFLOP),
        decides=False,
    )
    computed_from: tuple[str, ...] = setting(
        (),
        "Keys with the values that a config file has computed its variants from, 'KEY=VALUE': where the base has "
        "other values, the variants would not be what they are called, and are refused.",
        decides=False,
    )
    print_commands: bool = setting(
        False, "Print the commands instead, to be run elsewhere on the same folder.", decides=False
    )

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: a value out of its range, or a seed that is given twice.
        """
        check_ranges("ablation", self)
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise UserError(f"ablation.seeds names {', '.join(map(str, twice))} twice; a seed gives one run")
