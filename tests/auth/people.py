"""People who use the API as the seeds' readers do."""

from dataclasses import dataclass

import httpx2

SECRET_KEY = "a-secret-key-for-tests-that-is-long-enough"
PASSWORD = "password123"


@dataclass(slots=True)
class Person:
    """Somebody who has registered and logged in."""

    client: httpx2.AsyncClient
    name: str
    access_token: str
    refresh_token: str

    @classmethod
    async def join(cls, client: httpx2.AsyncClient, name: str) -> "Person":
        account = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        (await client.post("/auth/register", json=account)).raise_for_status()
        return await cls.log_in(client, name)

    @classmethod
    async def log_in(cls, client: httpx2.AsyncClient, name: str) -> "Person":
        answer = await login(client, f"{name}@example.com")
        tokens = answer.raise_for_status().json()
        return cls(client, name, tokens["access_token"], tokens["refresh_token"])

    async def send(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> httpx2.Response:
        """Send a request with the access token, or with another one."""
        headers = {"Authorization": f"Bearer {token or self.access_token}"}
        return await self.client.request(method, path, json=body, headers=headers)

    async def me(self, token: str | None = None) -> httpx2.Response:
        return await self.send("GET", "/auth/me", token=token)

    async def refresh(self, refresh_token: str | None = None) -> httpx2.Response:
        body = {"refresh_token": refresh_token or self.refresh_token}
        return await self.client.post("/auth/refresh", json=body)

    async def new_api_key(self, **fields: object) -> str:
        answer = await self.send("POST", "/auth/api-keys", {"name": "laptop", **fields})
        return answer.raise_for_status().json()["key"]


async def login(
    client: httpx2.AsyncClient, email: str, password: str = PASSWORD
) -> httpx2.Response:
    return await client.post("/auth/login", json={"email": email, "password": password})


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Return the status and the code of an error."""
    return answer.status_code, answer.json()["code"]
