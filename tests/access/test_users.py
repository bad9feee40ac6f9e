"""Approvers are found by user name, or by e-mail address where user names are numbers."""

import pytest

from nightshift.access.users import Person, approver_ids
from nightshift.errors import BadInput
from nightshift.settings.applications import load_application
from nightshift.settings.people import Approval


def application(*approvers):
    return load_application("banking_assistant").model_copy(update={"approval": Approval(approvers=list(approvers))})


PEOPLE = [
    Person(3, "ann", "ann@bank.example"),
    Person(4, "0f3c-entra-object-id", "Bob@bank.example"),
    Person(5, "ann@bank.example", "someone@bank.example"),
]


def test_approvers_of_all_applications_get_the_ids_of_their_users():
    assert approver_ids([application("ann"), application("bob@bank.example")], PEOPLE) == (
        {"ann": "3", "bob@bank.example": "4"},
        [],
    )


def test_a_user_name_comes_before_an_address():
    assert approver_ids([application("ann@bank.example")], PEOPLE)[0] == {"ann@bank.example": "5"}


def test_an_approver_who_never_logged_in_is_told_and_stands_for_nobody():
    assert approver_ids([application("carol", "ann")], PEOPLE) == ({"ann": "3"}, ["carol"])


def test_an_address_of_two_users_is_refused():
    twins = [Person(6, "d1", "d@bank.example"), Person(7, "d2", "d@bank.example")]
    with pytest.raises(BadInput, match="may be any of d1, d2"):
        approver_ids([application("d@bank.example")], twins)
