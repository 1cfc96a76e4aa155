"""PostgreSQL, the truth. The only room that speaks SQL.

`database.py` opens connections and transactions, `unit_of_work.py` is what one transaction may
touch, `tables/` the schema, `repositories/` the questions asked of it, `migrations/` its history,
`notices.py` how processes wake each other, `embedded.py` the PostgreSQL that comes along.
"""
