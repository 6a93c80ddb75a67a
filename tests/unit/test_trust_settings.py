"""The settings that ``tests.trust.settings`` tries in previews, here only loaded: quick, and in every run."""

from __future__ import annotations

import pytest

from cluster.errors import SettingsError
from tests.trust.settings import PAGE, REFUSED, RULES, UNUSUAL, Refused, Seen, complaint
from tests.unit.stacks import load

OF_THE_FILE_ALONE = [case for case in REFUSED if case.live is None]


@pytest.mark.parametrize("case", OF_THE_FILE_ALONE, ids=lambda case: f"{case.rule} {case.what}")
def test_a_bad_setting_is_refused_by_key_value_expectation_and_remedy(case: Refused) -> None:
    with pytest.raises(SettingsError) as error:
        load(case.changes, case.base)
    assert complaint(case, Seen(str(error.value), 0, "")) == ""


@pytest.mark.parametrize("what", UNUSUAL)
def test_an_unusual_setting_passes(what: str) -> None:
    assert load(UNUSUAL[what]).settings.nodes


def test_every_rule_was_tried_and_the_page_has_every_case() -> None:
    assert {case.rule for case in REFUSED} == set(range(1, len(RULES) + 1)) == set(range(1, 13))
    assert len(UNUSUAL) >= 10
    page = PAGE.read_text()
    assert [case.what for case in REFUSED if f"\n{case.rule}, {case.what}:\n" not in page] == []
    assert [what for what in UNUSUAL if f"| {what} |" not in page] == []
