"""POST /api/classify and all beside it, behind a password."""

import httpx
import pytest

from tests.api.client import ACCOUNT, picture, post_raw, refusal


def test_password_guards_the_api(guarded_url):
    def ask(**options) -> int:
        return post_raw(guarded_url, picture(), **options).status_code

    assert ask(auth=ACCOUNT) == 200
    user, password = ACCOUNT
    for wrong in ((user, "x"), (user, ""), ("bob", password), ("", ""), (password, user)):
        assert ask(auth=wrong) == 401

    response = post_raw(guarded_url, picture())
    assert refusal(response, 401)["reason"] == "login"
    assert response.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "header", ["Basic", "Basic %%%", "Basic w7w=", "Bearer abc", "Basic YW5uYQ==", b"Basic \xe9"]
)
def test_odd_credentials(guarded_url, header):
    url = f"{guarded_url}/api/classify"
    assert httpx.post(url, headers={"Authorization": header}).status_code == 401


def test_the_pages_login_opens_the_api(guarded_url):
    user, password = ACCOUNT
    with httpx.Client(base_url=guarded_url) as browser:
        form = {"username": user, "password": password}
        assert browser.post("/login", data=form).status_code == 200
        response = browser.post("/api/classify", files={"file": ("x.png", picture())})
        assert response.status_code == 200
        browser.get("/logout")
        assert browser.post("/api/classify").status_code == 401


def test_password_guards_everything_that_answers(guarded_url):
    """A stranger can see the login page and its scripts, and nothing else."""
    for path in ("/openapi.json", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        assert httpx.get(guarded_url + path).status_code == 401, path
    for path in ("schema", "sse", "", "messages/"):
        assert httpx.get(f"{guarded_url}/gradio_api/mcp/{path}").status_code == 401, path
    upload = httpx.post(f"{guarded_url}/gradio_api/upload", files={"files": ("x.png", picture())})
    assert upload.status_code == 401
    body = {"data": [None]}
    for path in ("run", "api", "call"):
        response = httpx.post(f"{guarded_url}/gradio_api/{path}/classify", json=body)
        assert response.status_code == 401, path
    assert '"auth_required":true' in httpx.get(guarded_url).text.replace(" ", "")


def test_mcp_opens_with_the_password(guarded_url):
    tools = httpx.get(f"{guarded_url}/gradio_api/mcp/schema", auth=ACCOUNT).json()
    assert len(tools) == 1
