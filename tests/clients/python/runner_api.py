"""A session of gitlab-runner-api against a running Paddock: register, verify, poll, unregister.

Reads PADDOCK_URL and PADDOCK_RUNNER_TOKEN, the token of an existing runner, from the environment. The package itself
cannot unregister; python-gitlab sends that call.
"""

import os

import gitlab
import gitlab_runner_api
from gitlab_runner_api import AuthException, Runner

URL = os.environ["PADDOCK_URL"]
TOKEN = os.environ["PADDOCK_RUNNER_TOKEN"]


def refused(call):
    try:
        call()
    except AuthException:
        return
    raise AssertionError("expected a refusal")


def main():
    # Registers at `/runners/`, with the trailing slash, and verifies at once.
    runner = Runner.register(
        URL, TOKEN, description="legacy", tags=["a", "b"], version="1.0.4", platform="linux", architecture="amd64"
    )
    assert runner.token == TOKEN and runner.id > 0
    assert Runner.loads(runner.dumps()) == runner
    runner.check_auth()
    assert runner.request_job() is None

    refused(lambda: Runner.register(URL, TOKEN[:-1]))
    gitlab.Gitlab(URL).runners.delete(token=TOKEN)
    refused(runner.check_auth)
    refused(runner.request_job)
    print("gitlab-runner-api", gitlab_runner_api.__version__, "passed")


if __name__ == "__main__":
    main()
