"""A session of python-gitlab against a running Paddock, as its documentation shows it.

Reads PADDOCK_URL and PADDOCK_ROOT_TOKEN from the environment; a failed check ends it with a trace.
"""

import os

import gitlab
from gitlab.exceptions import GitlabAuthenticationError, GitlabCreateError, GitlabDeleteError, GitlabGetError

URL = os.environ["PADDOCK_URL"]
TOKEN = os.environ["PADDOCK_ROOT_TOKEN"]


def refused(kind, status, call):
    """Calls and expects the client's own error with the status."""
    try:
        call()
    except kind as error:
        assert error.response_code == status, (error.response_code, status)
        return error
    raise AssertionError(f"expected {kind.__name__} with {status}")


def directory(gl):
    """The user, a group with a project in it, and a second project."""
    gl.auth()
    assert gl.user.username == "root", gl.user.username
    version, revision = gl.version()
    assert version != "unknown" and revision.startswith("paddock-"), (version, revision)
    group = gl.groups.create({"name": "Python clients", "path": "python-clients"})
    first = gl.projects.create({"name": "first", "namespace_id": group.id})
    second = gl.projects.create({"name": "second"})
    assert gl.projects.get("python-clients/first").id == first.id
    assert {first.id, second.id} <= {project.id for project in gl.projects.list(iterator=True)}
    return group, first, second


def create(gl, project):
    created = gl.user.runners.create(
        {
            "runner_type": "project_type",
            "project_id": project.id,
            "description": "made by python-gitlab",
            "tag_list": ["linux", "arm64"],
            "maximum_timeout": 3600,
        }
    )
    assert created.id > 0 and created.token, created
    gl.runners.verify(created.token)
    return created


def read(gl, project, created):
    runner = gl.runners.get(created.id)
    assert runner.description == "made by python-gitlab"
    assert sorted(runner.tag_list) == ["arm64", "linux"]
    assert runner.maximum_timeout == 3600 and runner.paused is False
    assert [entry["id"] for entry in runner.projects] == [project.id]
    assert created.id in [entry.id for entry in gl.runners.list(iterator=True)]
    assert created.id in [entry.id for entry in gl.runners_all.list(iterator=True)]
    assert created.id in [entry.id for entry in gl.runners.list(tag_list=["linux"], iterator=True)]
    assert created.id in [entry.id for entry in project.runners.list(iterator=True)]
    return runner


def pages(gl, project):
    """The iterator follows the Link header; the lists know their sizes."""
    more = [gl.user.runners.create({"runner_type": "project_type", "project_id": project.id}).id for _ in range(3)]
    page = gl.runners_all.list(per_page=2, page=1)
    assert len(page) == 2
    everyone = gl.runners_all.list(per_page=2, iterator=True)
    assert everyone.total >= 4 and everyone.per_page == 2 and everyone.total_pages >= 2
    assert set(more) <= {runner.id for runner in everyone}
    for runner in more:
        gl.runners.delete(runner)


def update(gl, runner):
    runner.description = "changed by python-gitlab"
    runner.paused = True
    runner.tag_list = ["linux"]
    runner.save()
    again = gl.runners.get(runner.id)
    assert again.description == "changed by python-gitlab" and again.paused is True
    assert again.tag_list == ["linux"] and again.maximum_timeout == 3600


def assign(gl, owner, second, runner):
    second.runners.create({"runner_id": runner.id})
    assert runner.id in [entry.id for entry in second.runners.list(iterator=True)]
    refused(GitlabCreateError, 400, lambda: second.runners.create({"runner_id": runner.id}))
    refused(GitlabDeleteError, 403, lambda: owner.runners.delete(runner.id))
    second.runners.delete(runner.id)
    assert [entry["id"] for entry in gl.runners.get(runner.id).projects] == [owner.id]


def refusals(gl):
    stranger = gitlab.Gitlab(URL, private_token=TOKEN[:-1])
    refused(GitlabAuthenticationError, 401, stranger.auth)
    error = refused(GitlabGetError, 404, lambda: gl.runners.get(2**40))
    assert error.error_message == "404 Runner Not Found", error.error_message
    refused(GitlabCreateError, 400, lambda: gl.user.runners.create({"runner_type": "nonsense"}))


def main():
    gl = gitlab.Gitlab(URL, private_token=TOKEN)
    group, first, second = directory(gl)
    created = create(gl, first)
    runner = read(gl, first, created)
    pages(gl, first)
    update(gl, runner)
    assign(gl, first, second, runner)
    refusals(gl)
    gl.runners.delete(runner.id)
    refused(GitlabGetError, 404, lambda: gl.runners.get(runner.id))
    grouped = gl.user.runners.create({"runner_type": "group_type", "group_id": group.id})
    assert grouped.id in [entry.id for entry in group.runners.list(iterator=True)]
    gl.runners.delete(token=grouped.token)
    group.delete()
    print("python-gitlab", gitlab.__version__, "passed")


if __name__ == "__main__":
    main()
