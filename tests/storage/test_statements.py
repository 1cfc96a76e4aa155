"""SQL with named parameters."""

import pytest

from tertulia.storage.statements import statement


def test_parameters_are_numbered_in_the_order_of_their_first_use() -> None:
    made = statement("SELECT * FROM t WHERE a = :first AND b = :second AND c > :first")
    assert made.sql == "SELECT * FROM t WHERE a = $1 AND b = $2 AND c > $1"
    assert made.arguments({"second": 2, "first": 1}) == [1, 2]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x::uuid[]",
        "SELECT 'it''s 10:30 :here'",
        'SELECT ":name"',
        "SELECT 1 -- as :said\n",
        "SELECT a[1:2]",
    ],
)
def test_a_colon_that_is_no_parameter_is_left_alone(sql: str) -> None:
    made = statement(sql)
    assert (made.sql, made.names) == (sql, ())


def test_a_parameter_can_be_cast() -> None:
    assert (
        statement("SELECT :id::uuid, CAST(:id AS text)").sql == "SELECT $1::uuid, CAST($1 AS text)"
    )


def test_a_value_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="owner"):
        statement("SELECT :owner").arguments({})
