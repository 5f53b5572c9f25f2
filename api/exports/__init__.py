"""Files that leave the house: canonical rows of a reward run, written as CSV and read back again."""
