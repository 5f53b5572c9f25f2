"""The unified social credit code (统一社会信用代码, GB 32100-2015): 18 characters, the last one a check. Pure.

1 registering authority, 1 kind of organisation, 6 administrative region, 9 organisation code (GB 11714, with a check
of its own), 1 check character over all. The alphabet leaves out I, O, S, V and Z.
"""

from api.errors import invalid

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
LENGTH = 18
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_WEIGHTS = tuple(pow(3, place, 31) for place in range(LENGTH - 1))
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def is_valid(code: str) -> bool:
    """Whether `code` is 18 characters of the alphabet (upper case) whose check character fits."""
    if len(code) != LENGTH or any(character not in _VALUE for character in code):
        return False
    return code[-1] == check_character(code[:-1])


def read_uscc(text: str) -> str:
    """Return a code as it was typed, in capitals and without space around. Raises 422 `uscc_invalid`."""
    code = text.strip().upper()
    if not is_valid(code):
        raise invalid(
            "uscc_invalid",
            f"统一社会信用代码 {code} 校验不通过;请核对 18 位代码。",
            f"{code} is not a unified social credit code: its check character does not fit; check all 18 characters.",
            field="uscc",
        )
    return code


def make(body17: str) -> str:
    """Return `body17` with its check character. Raises ValueError unless it is 17 characters of the alphabet."""
    return body17 + check_character(body17)


def check_character(body17: str) -> str:
    """Return the check character: weights 3^(i-1) mod 31, (31 - sum mod 31) mod 31. Raises ValueError as `make`."""
    if len(body17) != LENGTH - 1:
        raise ValueError(f"the code before its check character has 17 characters, not {len(body17)}")
    for character in body17:
        if character not in _VALUE:
            raise ValueError(
                f"{character!r} does not occur in a social credit code (digits and capitals without IOSVZ)"
            )
    total = sum(_VALUE[character] * weight for character, weight in zip(body17, _WEIGHTS, strict=True))
    return ALPHABET[-total % 31]


def organisation_code(body8: str) -> str:
    """Return 8 digits with the check character of GB 11714 (mod 11, 10 written X). Raises ValueError otherwise."""
    if len(body8) != 8 or not (body8.isascii() and body8.isdigit()):
        raise ValueError(f"{body8!r} is not 8 digits")
    check = -sum(int(digit) * weight for digit, weight in zip(body8, _ORGANISATION_WEIGHTS, strict=True)) % 11
    return body8 + ("X" if check == 10 else str(check))
