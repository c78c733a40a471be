// SPDX-License-Identifier: Apache-2.0
// The command tree as it is: what manual pages and completions are made of, so that neither can say
// anything else than --help.

/**
 * @typedef {object} CommandText
 * @property {string[]} path           "pool", "create"
 * @property {string} description
 * @property {string} usage            what follows the command's name
 * @property {{ term: string, text: string }[]} arguments
 * @property {OptionText[]} options
 * @property {string} epilogue         examples, exit statuses
 * @property {CommandText[]} commands
 *
 * @typedef {{ flags: string, text: string, long: string, takes: boolean, choices: string[] }}
 *   OptionText
 */

/**
 * @param {import('commander').Command} command
 * @param {string[]} [path]
 * @returns {CommandText}
 */
export function textOf(command, path = []) {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((one) => one.name() !== 'help');
  return {
    path,
    description: help.commandDescription(command),
    usage: command.usage(),
    arguments: help.visibleArguments(command).map((argument) => ({
      term: help.argumentTerm(argument),
      text: help.argumentDescription(argument),
    })),
    options: help.visibleOptions(command).map((option) => ({
      flags: option.flags,
      text: help.optionDescription(option),
      long: option.long ?? option.short ?? '',
      takes: option.required || option.optional,
      choices: option.argChoices ?? [],
    })),
    epilogue: epilogueOf(command),
    commands: commands.map((one) => textOf(one, [...path, one.name()])),
  };
}

/** What addHelpText('after') has added. @param {import('commander').Command} command */
function epilogueOf(command) {
  const parts = [];
  const context = { error: false, command, write: (text) => parts.push(text) };
  command.emit('afterHelp', context);
  return parts.join('').trim();
}
