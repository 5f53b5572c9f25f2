"""One archive with all that a reward run rests on and a program that computes it again without ours."""
