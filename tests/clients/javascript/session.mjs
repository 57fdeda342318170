// A session of @gitbeaker/rest against a running Paddock: create, show, edit, assign, remove.
// Reads PADDOCK_URL and PADDOCK_ROOT_TOKEN from the environment; a failed check ends it with a trace.
import assert from 'node:assert/strict';
import { Gitlab } from '@gitbeaker/rest';

const { PADDOCK_URL: host, PADDOCK_ROOT_TOKEN: token } = process.env;
const api = new Gitlab({ host, token });

async function refused(status, call) {
  const error = await call().then(
    () => assert.fail(`expected ${status}`),
    (reason) => reason,
  );
  assert.equal(error.cause?.response?.status, status, error);
  return error;
}

const project = await api.Projects.create({ name: 'gitbeaker' });
const other = await api.Projects.create({ name: 'gitbeaker-other' });
assert.equal((await api.Projects.show('root/gitbeaker')).id, project.id);

const created = await api.Users.createCIRunner('project_type', {
  projectId: project.id,
  description: 'made by gitbeaker',
  tagList: ['linux', 'arm64'],
  runUntagged: false,
});
assert.ok(created.id > 0 && created.token);

const shown = await api.Runners.show(created.id);
assert.equal(shown.description, 'made by gitbeaker');
assert.deepEqual([...shown.tag_list].sort(), ['arm64', 'linux']);
assert.equal(shown.run_untagged, false);

const edited = await api.Runners.edit(created.id, { description: 'changed by gitbeaker', paused: true });
assert.equal(edited.description, 'changed by gitbeaker');
assert.equal(edited.paused, true);
assert.deepEqual([...edited.tag_list].sort(), ['arm64', 'linux']);

const listed = await api.Runners.all({ projectId: project.id });
assert.ok(listed.some((runner) => runner.id === created.id));

await api.Runners.enable(other.id, created.id);
await refused(403, () => api.Runners.disable(project.id, created.id));
await api.Runners.disable(other.id, created.id);

const missing = await refused(404, () => api.Runners.show(1099511627776));
assert.equal(missing.cause.description, '404 Runner Not Found');

await api.Runners.remove({ runnerId: created.id });
await refused(404, () => api.Runners.show(created.id));

const second = await api.Users.createCIRunner('project_type', { projectId: project.id });
await api.Runners.remove({ token: second.token });
await refused(404, () => api.Runners.show(second.id));

console.log('@gitbeaker/rest passed');
