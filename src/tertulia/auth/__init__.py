"""Accounts: users, login sessions, API keys, and the one function that decides who asks.

A login is a session: a row that every request is checked against, so what is revoked is revoked at
once. Its access tokens are short-lived and signed, its refresh tokens random and good for one use.
An API key is accepted wherever an access token is, except where the account itself is at stake.
"""
