package oddities

// Code Generated Automatically by a parser generator.
func Next(state int) int {
	return state + 1
}
