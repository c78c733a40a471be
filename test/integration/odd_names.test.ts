// SPDX-License-Identifier: Apache-2.0
// Targets whose names are not text: bytes of an older encoding.
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { encodeText } from '../../src/text.ts';
import { expectWriteAndVerify, LoopbackMachine, MIB } from '../support/loopback_machine.ts';

let machine: LoopbackMachine | undefined;
afterEach(async () => {
  await machine?.close();
  machine = undefined;
});

it.each(['d\udce9j\udce0.img', 'Grüße €😀.img', '\udced\udcb2\udc80', 'a b,c:[x]&\n.img'])(
  '%j is opened by its bytes',
  async (name) => {
    machine = await LoopbackMachine.start();
    const file = path.join(machine.config.runtimeDir, name);
    writeFileSync(encodeText(file), '');
    truncateSync(encodeText(file), 16 * MIB);
    const { frontend } = await machine.plug({ params: `aio:${file}` });
    await frontend.connect();
    await expectWriteAndVerify(frontend, { length: MIB });
  },
);

it('what is not there is named by its bytes', async () => {
  machine = await LoopbackMachine.start();
  const { paths } = await machine.plug({ params: 'file:/none/d\udce9j' });
  await expect
    .poll(() => machine?.platform.xenstore.read(`${paths.backend}/hotplug-error`))
    .toMatch(/\/none\/d(\\xe9|\udce9)j/);
});
