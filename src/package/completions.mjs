// SPDX-License-Identifier: Apache-2.0
// Completions of commands, options and choices for bash, zsh and fish.
/** @typedef {import('./command_tree.mjs').CommandText} CommandText */

/** @param {CommandText} root @returns {CommandText[]} it, and all below it */
function all(root) {
  return [root, ...root.commands.flatMap(all)];
}

/** What may follow a command's words. @param {CommandText} command */
function wordsAfter({ commands, options }) {
  return [...commands.map(({ path }) => path.at(-1)), ...options.map(({ long }) => long)];
}

/** @param {CommandText} root @returns {string} for /usr/share/bash-completion/completions */
export function bashCompletion(root) {
  const words = all(root).map(
    (command) => `    "${command.path.join(' ')}") words="${wordsAfter(command).join(' ')}" ;;`,
  );
  const choices = all(root).flatMap(({ path, options }) =>
    options
      .filter((option) => option.choices.length > 0)
      .map(
        ({ long, choices }) => `    "${path.join(' ')} ${long}") words="${choices.join(' ')}" ;;`,
      ),
  );
  return `# SPDX-License-Identifier: Apache-2.0
# Made of ringdisk --help.
_ringdisk() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path= word words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
${commandPaths(root)}) path="\${path:+$path }$word" ;;
    esac
  done
  case "\${path:+$path }$previous" in
${choices.join('\n')}
  esac
  [ -n "$words" ] || case "$path" in
${words.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  [ \${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -F _ringdisk ringdisk
`;
}

/** @param {CommandText} root */
function commandPaths(root) {
  const paths = all(root).filter(({ path }) => path.length > 0);
  return paths.map(({ path }) => `    "${path.join(' ')}"`).join(' | \\\n');
}

/** @param {CommandText} root @returns {string} for /usr/share/zsh/vendor-completions */
export function zshCompletion(root) {
  const cases = all(root).map((command) => {
    const lines = [
      ...command.commands.map(({ path, description }) => [path.at(-1), description]),
      ...command.options.map(({ long, text }) => [long, text]),
    ].map(([word, text]) => `      ${quoted(`${word}:${text}`)}`);
    return `    (${quoted(command.path.join(' '))}) entries=(\n${lines.join('\n')}\n    ) ;;`;
  });
  return `#compdef ringdisk
# SPDX-License-Identifier: Apache-2.0
# Made of ringdisk --help.
local at= word
local -a entries
for word in "\${(@)words[2,CURRENT-1]}"; do
  case "\${at:+$at }$word" in
${commandPaths(root)}) at="\${at:+$at }$word" ;;
  esac
done
case "$at" in
${cases.join('\n')}
esac
_describe ringdisk entries || _files
`;
}

/** @param {CommandText} root @returns {string} for /usr/share/fish/vendor_completions.d */
export function fishCompletion(root) {
  const lines = all(root).flatMap((command) => {
    const here =
      command.path.length === 0
        ? '__fish_use_subcommand'
        : `__fish_seen_subcommand_from ${command.path.at(-1)}`;
    return [
      ...command.commands.map(
        ({ path, description }) =>
          `complete -c ringdisk -n '${here}' -a ${path.at(-1)} -d ${quoted(description)}`,
      ),
      ...command.options.map(({ long, text, takes, choices }) => {
        const values = choices.length > 0 ? ` -a ${quoted(choices.join(' '))}` : '';
        const name = long.replace(/^-+/, '');
        const what = `-l ${name}${takes ? ' -r' : ''}${values} -d ${quoted(text)}`;
        return `complete -c ringdisk -n '${here}' ${what}`;
      }),
    ];
  });
  return `# SPDX-License-Identifier: Apache-2.0\n# Made of ringdisk --help.\n${lines.join('\n')}\n`;
}

/** As one word of a shell. @param {string} text */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
