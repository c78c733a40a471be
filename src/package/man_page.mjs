// SPDX-License-Identifier: Apache-2.0
// Manual pages, as troff with the man macros: ringdisk(8) and one for each command with commands.
/** @typedef {import('./command_tree.mjs').CommandText} CommandText */

/**
 * @param {CommandText} root
 * @param {string} version
 * @returns {{ name: string, text: string }[]} "ringdisk.8", "ringdisk-pool.8", ...
 */
export function manPages(root, version) {
  return [root, ...root.commands].map((command) => {
    const name = ['ringdisk', ...command.path].join('-');
    return { name: `${name}.8`, text: page(name, command, root, version) };
  });
}

/** @param {string} name @param {CommandText} command @param {CommandText} root */
function page(name, command, root, version) {
  const others = [root, ...root.commands]
    .map(({ path }) => ['ringdisk', ...path].join('-'))
    .filter((other) => other !== name);
  return [
    `.TH ${name.toUpperCase()} 8 "" "ringdisk ${version}" "System Administration"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(command.description)}`,
    '.SH SYNOPSIS',
    `.B ${escaped(['ringdisk', ...command.path].join(' '))}`,
    escaped(command.usage),
    ...section('ARGUMENTS', terms(command.arguments)),
    ...section('OPTIONS', terms(command.options.map(({ flags, text }) => ({ term: flags, text })))),
    ...section(
      'COMMANDS',
      command.commands.flatMap((one) => subcommand(one, command !== root)),
    ),
    ...section('NOTES', verbatim(command.epilogue)),
    '.SH SEE ALSO',
    others.map((other) => `.BR ${escaped(other)} (8)`).join(' ,\n'),
    '',
  ].join('\n');
}

/** The root's have pages of their own. @param {CommandText} command @param {boolean} isWhole */
function subcommand(command, isWhole) {
  const title = `${command.path.join(' ')} ${command.usage}`;
  if (!isWhole) return terms([{ term: title, text: command.description }]);
  const all = [
    ...command.arguments,
    ...command.options.map(({ flags, text }) => ({ term: flags, text })),
  ];
  return [
    `.SS ${escaped(title)}`,
    escaped(command.description),
    ...terms(all),
    ...verbatim(command.epilogue),
    ...command.commands.flatMap((one) => subcommand(one, true)),
  ];
}

/** @param {string} title @param {string[]} lines */
function section(title, lines) {
  return lines.length === 0 ? [] : [`.SH ${title}`, ...lines];
}

/** @param {{ term: string, text: string }[]} list */
function terms(list) {
  return list.flatMap(({ term, text }) => ['.TP', `.B ${escaped(term)}`, escaped(text)]);
}

/** @param {string} text */
function verbatim(text) {
  return text === '' ? [] : ['.PP', '.nf', ...text.split('\n').map(escaped), '.fi'];
}

/** @param {string} text one line, in which nothing is a request or an escape */
function escaped(text) {
  const safe = text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('\n', ' ');
  return /^[.']/.test(safe) ? `\\&${safe}` : safe;
}
