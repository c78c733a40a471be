#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Installs the packages in new Debian systems and does there what a user's hosts go through. As
// root; needs a Debian mirror, mmdebstrap and out/packages (npm run package). The lintian and
// rpmlint verdicts come first.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
const PACKAGES = path.join(REPOSITORY, 'out/packages');
const NEWER = '0.1.0+next';
/** Debian 12's own Node is too old: there ringdisk-node is needed. */
const SUITES = { bookworm: ['ringdisk-node'], trixie: [] };
const BASE = 'xen-utils-common,udev,procps';
/** Where rpm is tried as well, by a database of its own: no distribution of its is within reach. */
const RPM_SUITE = 'trixie';
const HELP = `usage: node test/package/run.mjs [--only bookworm|trixie|lint]`;

let passed = 0;
let failed = 0;

/** @param {string} name @param {() => void} body */
function test(name, body) {
  const from = Date.now();
  const seconds = () => `(${((Date.now() - from) / 1000).toFixed(1)} s)`;
  try {
    body();
    passed++;
    console.log(`ok   ${name} ${seconds()}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name} ${seconds()} ${error.message}`);
  }
}

/** @param {string} program @param {string[]} args @returns {string} */
function run(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
  });
  if (status === 0) return stdout;
  const words = `${stdout}${stderr}`.trim().split('\n').slice(-40).join('\n     ');
  throw new Error(
    `${program} ${args.join(' ')}: ${error?.message ?? `exit ${status}`}\n     ${words}`,
  );
}

/** @param {unknown} truth @param {string} sentence */
function check(truth, sentence) {
  if (!truth) throw new Error(sentence);
}

function lint(debs) {
  test('lintian has nothing to say', () => {
    const said = run('lintian', '--tag-display-limit', '0', '--allow-root', ...debs);
    check(said.trim() === '', said);
  });
  test('rpmlint has nothing to say', () => {
    const rpms = readdirSync(PACKAGES).filter((name) => name.endsWith('.rpm'));
    const paths = rpms.map((name) => path.join(PACKAGES, name));
    const config = path.join(REPOSITORY, 'src/package/rpm/rpmlint.toml');
    const said = run('rpmlint', '-c', config, ...paths);
    check(/ 0 errors, 0 warnings/.test(said), said);
  });
}

class Host {
  /** @param {string} suite */
  constructor(suite) {
    this.root = mkdtempSync(path.join(tmpdir(), `ringdisk-${suite}-`));
    run('mmdebstrap', '--quiet', '--variant=apt', `--include=${BASE}`, suite, this.root);
    for (const name of ['proc', 'dev', 'sys']) run('mount', '--rbind', `/${name}`, this.path(name));
    for (const name of ['proc', 'dev', 'sys']) run('mount', '--make-rslave', this.path(name));
    cpSync('/etc/resolv.conf', this.path('etc/resolv.conf'), { dereference: true });
    this.run('apt-get', 'update', '-qq');
    // No services are started in here.
    cpSync('/bin/false', this.path('usr/sbin/policy-rc.d'));
    mkdirSync(this.path('packages'));
  }

  /** @param {string} inside */
  path(inside) {
    return path.join(this.root, inside);
  }

  /** @param {string[]} words */
  run(...words) {
    return run('chroot', this.root, ...words);
  }

  /** @param {string[]} files of this machine */
  install(...files) {
    for (const file of files) cpSync(file, this.path(`packages/${path.basename(file)}`));
    const inside = files.map((file) => `/packages/${path.basename(file)}`);
    this.run(
      'apt-get',
      'install',
      '-qq',
      '-y',
      '--allow-downgrades',
      '--no-install-recommends',
      ...inside,
    );
  }

  /** @param {string} inside @returns {string} of a script, alike for equal texts */
  text(inside) {
    return readFileSync(this.path(inside), 'utf8');
  }

  end() {
    for (const name of ['sys', 'dev', 'proc']) spawnSync('umount', ['-R', '-l', this.path(name)]);
    rmSync(this.root, { recursive: true, force: true });
  }
}

const BLOCK_TAP = 'etc/xen/scripts/block-tap';

/** @param {string} suite @param {Map<string, string>} debs @param {Map<string, string>} newer */
function onHost(suite, debs, newer) {
  const needed = [...SUITES[suite], 'ringdisk', 'ringdisk-xapi'];
  const of = (set) => needed.map((name) => set.get(name));
  const host = new Host(suite);
  const ours = readFileSync(path.join(REPOSITORY, 'src/host/block-ringdisk'), 'utf8');
  const distribution = existsSync(host.path(BLOCK_TAP)) ? host.text(BLOCK_TAP) : undefined;
  try {
    test(`${suite}: apt installs it, with what it needs`, () => {
      host.install(...of(debs));
      check(host.run('ringdisk', '--version').trim() === '0.1.0', 'it says another version');
      check(host.text(BLOCK_TAP) === ours, 'block-tap is not ours');
      check(
        existsSync(host.path('usr/lib/ringdisk/dist/bundle.cache')),
        'nothing is compiled ahead',
      );
    });
    test(`${suite}: it does its main job there`, () => {
      const said = host.run('ringdisk', 'demo');
      check(/verified: +512 MiB/.test(said), said);
    });
    test(`${suite}: manual pages, completions and units are what they should be`, () => {
      host.run('sh', '-c', 'ringdisk pool create --help > /dev/null');
      host.run('bash', '-n', '/usr/share/bash-completion/completions/ringdisk');
      const plugins = '/usr/libexec/xapi-storage-script/volume/org.xen.xapi.storage.ringdisk';
      check(existsSync(host.path(plugins)), 'the plugins of XAPI are missing');
    });
    test(`${suite}: upgraded, and downgraded by one`, () => {
      host.run('sh', '-c', 'echo \'{ "reactors": 2 }\' > /etc/ringdisk/config.json');
      host.install(...of(newer));
      check(/0\.1\.0\+next/.test(host.run('dpkg-query', '-W', 'ringdisk')), 'it is the old one');
      host.run('ringdisk', '--version');
      host.install(...of(debs));
      check(
        /"reactors": 2/.test(host.text('etc/ringdisk/config.json')),
        'the configuration is gone',
      );
    });
    test(`${suite}: not removed while it serves disks`, () => {
      host.run(
        'sh',
        '-c',
        'mkdir -p /run/ringdisk/vbds; echo {} > /run/ringdisk/vbds/3-51712.json',
      );
      let refusal = '';
      try {
        host.run('apt-get', 'remove', '-qq', '-y', 'ringdisk');
      } catch (error) {
        refusal = error.message;
      }
      check(/serves disks of guests/.test(refusal), `removed: ${refusal}`);
      host.run('rm', '-r', '/run/ringdisk');
    });
    test(`${suite}: removed and purged, and all is as before`, () => {
      host.run('apt-get', 'remove', '-qq', '-y', ...needed);
      const now = existsSync(host.path(BLOCK_TAP)) ? host.text(BLOCK_TAP) : undefined;
      check(now === distribution, 'block-tap is not what the distribution has');
      host.run('apt-get', 'purge', '-qq', '-y', ...needed);
      const left = host.run(
        'sh',
        '-c',
        "find /etc /usr /var/lib -path '*ringdisk*' | grep -v /var/lib/dpkg || true",
      );
      check(left.trim() === '', `left: ${left}`);
    });
    if (suite === RPM_SUITE) rpmOnHost(host, distribution);
  } finally {
    host.end();
  }
}

/** Dependencies are not looked at: dpkg has what they name. @param {Host} host */
function rpmOnHost(host, distribution) {
  const files = readdirSync(PACKAGES).filter((name) => name.endsWith('.rpm'));
  const needed = files.filter((name) => !name.startsWith('ringdisk-node'));
  const inside = needed.map((name) => `/packages/${name}`);
  for (const name of needed) cpSync(path.join(PACKAGES, name), host.path(`packages/${name}`));
  host.run('apt-get', 'install', '-qq', '-y', '--no-install-recommends', 'rpm', 'nodejs');
  test('rpm: installed, verified, doing its main job', () => {
    host.run('rpm', '-i', '--nodeps', ...inside);
    host.run('rpm', '-V', '--nodeps', 'ringdisk', 'ringdisk-xapi');
    check(/verified: +512 MiB/.test(host.run('ringdisk', 'demo')), 'the demo does not verify');
    check(host.text(BLOCK_TAP) === host.text('etc/xen/scripts/block-ringdisk'), 'not our script');
  });
  test('rpm: installed over itself, and erased', () => {
    host.run('rpm', '-U', '--nodeps', '--replacepkgs', ...inside);
    host.run('ringdisk', '--version');
    host.run('rpm', '-e', 'ringdisk-xapi', 'ringdisk');
    check(host.text(BLOCK_TAP) === distribution, 'block-tap is not what the distribution has');
    check(!existsSync(host.path('usr/lib/ringdisk/dist')), 'something is left');
  });
}

/** @param {string} folder @returns {Map<string, string>} paths by the packages' names */
function debsIn(folder) {
  const names = readdirSync(folder).filter((name) => name.endsWith('.deb'));
  return new Map(names.map((name) => [name.replace(/_.*/, ''), path.join(folder, name)]));
}

function main() {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return console.log(HELP);
  const debs = debsIn(PACKAGES);
  if (!values.only || values.only === 'lint') lint([...debs.values()]);
  const folder = mkdtempSync(path.join(tmpdir(), 'ringdisk-next-'));
  const build = path.join(REPOSITORY, 'src/package/build.mjs');
  execFileSync('node', [build, '--only', 'deb', '--as-version', NEWER, '--output', folder], {
    stdio: 'ignore',
  });
  for (const suite of Object.keys(SUITES)) {
    if (!values.only || values.only === suite) onHost(suite, debs, debsIn(folder));
  }
  rmSync(folder, { recursive: true });
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}

main();
