// A program that uses dockerode, unchanged, against the socket in DOCKER_SOCKET: containers, streams, files, events.
//
// Arguments: an image with busybox, a label value, and `ports` where published ports can be reached from here.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';

// The packages lie where the test has put them, not beside this file.
const Docker = createRequire(`${process.env.MODULES}/`)('dockerode');
const [image, label, ...flags] = process.argv.slice(2);
const docker = new Docker({ socketPath: process.env.DOCKER_SOCKET, timeout: 120_000 });
const Labels = { 'dhow-test': label };
const step = (name) => console.log(name);
const fails = (status, call) => assert.rejects(call, (error) => (assert.equal(error.statusCode, status), true));

step('ping, version, info');
assert.equal((await docker.ping()).toString(), 'OK');
assert.equal((await docker.version()).Os, 'linux');
assert.equal((await docker.info()).OSType, 'linux');

step('run');
{
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = Promise.all([text(out), text(err)]);
  const script = ['sh', '-c', 'echo out; echo err >&2; exit 7'];
  const [status, container] = await docker.run(image, script, [out, err], { Tty: false, Labels });
  out.end();
  err.end();
  assert.equal(status.StatusCode, 7);
  assert.deepEqual(await texts, ['out\n', 'err\n']);
  await container.remove();
}

step("errors are Docker's");
await fails(404, () => docker.getContainer('no-such-container').inspect());
await fails(404, () => docker.createContainer({ Image: 'no-such-image:1' }));

step('create, start, inspect');
const container = await docker.createContainer({
  name: `${label}-node`,
  Image: image,
  Cmd: ['sh', '-c', 'echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp'],
  Labels,
  ExposedPorts: { '80/tcp': {} },
  HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] }, Init: true },
});
await container.start();
const inspected = await container.inspect();
assert.equal(inspected.State.Running, true);
await fails(409, () => docker.createContainer({ name: `${label}-node`, Image: image }));

if (flags.includes('ports')) {
  step('published port');
  const [{ HostPort }] = inspected.NetworkSettings.Ports['80/tcp'];
  const answer = await fetch(`http://127.0.0.1:${HostPort}/`, { signal: AbortSignal.timeout(60_000) });
  assert.equal(await answer.text(), 'page\n');
}

step('exec, hijacked both ways');
{
  const exec = await container.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const out = new PassThrough();
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  stream.end('through cat\n');
  assert.equal(await text(out), 'through cat\n');
  assert.equal((await exec.inspect()).ExitCode, 0);
}

step('exec with a terminal, resized');
{
  const exec = await container.exec({ Cmd: ['sh', '-c', 'read go; stty size'], AttachStdin: true, AttachStdout: true, Tty: true });
  const stream = await exec.start({ hijack: true, stdin: true, Tty: true });
  await exec.resize({ h: 40, w: 120 });
  stream.write('go\n');
  assert.match(await text(stream), /40 120/);
}

step('attach before start');
{
  const cat = await docker.createContainer({
    Image: image, Cmd: ['cat'], Labels, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true,
  });
  const stream = await cat.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  await cat.start();
  const out = new PassThrough();
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  stream.end('attached\n');
  assert.equal(await text(out), 'attached\n');
  assert.equal((await cat.wait()).StatusCode, 0);
  await cat.remove();
}

step('files in and out');
{
  const archive = await container.getArchive({ path: '/tmp/index.html' });
  await container.putArchive(archive, { path: '/var' });
  const exec = await container.exec({ Cmd: ['cat', '/var/index.html'], AttachStdout: true });
  const out = new PassThrough();
  const stream = await exec.start({});
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  assert.equal(await text(out), 'page\n');
}

step('events and logs, followed and given up');
{
  const filters = { label: [`dhow-test=${label}`], event: ['pause'] };
  const events = await docker.getEvents({ filters });
  const heard = new Promise((resolve) => events.once('data', (line) => resolve(JSON.parse(line))));
  await container.pause();
  assert.equal((await heard).Actor.ID, container.id);
  events.destroy();
  await container.unpause();
  const logs = await container.logs({ follow: true, stdout: true, stderr: true });
  logs.destroy();
}

step('stats, list, stop, prune');
const stats = await container.stats({ stream: false });
assert.ok(stats.memory_stats.usage > 0);
const filters = { label: [`dhow-test=${label}`] };
assert.deepEqual((await docker.listContainers({ filters })).map(({ Id }) => Id), [container.id]);
await container.stop({ t: 1 });
const pruned = await docker.pruneContainers({ filters });
assert.deepEqual(pruned.ContainersDeleted, [container.id]);
step('done');
