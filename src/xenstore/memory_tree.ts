// SPDX-License-Identifier: Apache-2.0
// The tree of the in-memory xenstore: nodes, who may touch them, and the operations, all
// synchronous. The operations work on a NodeTable, which is the store itself or a transaction's
// view of it.
import { type Permission, XenstoreError } from './client.ts';
import { baseName, childPath, parentPath } from './paths.ts';

/**
 * Never changed once it is in a table: a change puts a new object, so identity means "unchanged".
 */
export interface TreeNode {
  readonly value: string;
  readonly permissions: readonly Permission[];
  readonly children: readonly string[];
  /** Unique per change; lets a reader of a list in parts see that the list changed. */
  readonly generation: number;
}

export interface NodeTable {
  get(path: string): TreeNode | undefined;
  put(path: string, node: Omit<TreeNode, 'generation'>): void;
  drop(path: string): void;
}

/** Something a watch may want to hear of. */
export interface TreeChange {
  readonly path: string;
  /** Only watches on this very path match: the node went with a parent that was removed. */
  readonly exact: boolean;
  /** Who may read any of these may know: the node before and after, and its parent. */
  readonly seenBy: readonly (readonly Permission[])[];
}

/** Domain 0 may do everything; an owner everything with its node; others what the entries say. */
export function mayAccess(
  permissions: readonly Permission[],
  domid: number,
  wanted: 'read' | 'write' | 'own',
): boolean {
  const [owner, ...others] = permissions;
  if (domid === 0 || owner?.domid === domid) return true;
  const access = others.find((entry) => entry.domid === domid)?.access ?? owner?.access ?? 'n';
  if (wanted === 'read') return access === 'r' || access === 'b';
  return wanted === 'write' && (access === 'w' || access === 'b');
}

/** The tree as one domain sees it through one table. Every path is absolute and already checked. */
export class TreeView {
  readonly #table: NodeTable;
  readonly #domid: number;
  readonly #changed: (change: TreeChange) => void;

  constructor(table: NodeTable, domid: number, changed: (change: TreeChange) => void) {
    this.#table = table;
    this.#domid = domid;
    this.#changed = changed;
  }

  /** Throws ENOENT where there is no such node, EACCES where this domain may not know. */
  node(path: string): TreeNode {
    return this.#existing(path, 'read');
  }

  write(path: string, value: string): void {
    const node = this.#permitted(path, 'write') ?? this.#create(path);
    this.#table.put(path, { ...node, value });
    this.#report(path, node);
  }

  mkdir(path: string): void {
    if (this.#permitted(path, 'write')) return;
    this.#report(path, this.#create(path));
  }

  /** Throws ENOENT where not even the parent is there; EINVAL for the root. */
  remove(path: string): void {
    const node = this.#permitted(path, 'write');
    const above = parentPath(path);
    if (above === undefined) throw new XenstoreError('EINVAL', 'the root cannot be removed');
    const parent = this.#table.get(above);
    if (!parent) throw missing(path);
    if (!node) return;
    this.#removeSubtree(path, node, parent, false);
    const name = baseName(path);
    const children = parent.children.filter((child) => child !== name);
    this.#table.put(above, { ...parent, children });
  }

  /** Only the owner may, and only domain 0 may give a node to another owner. */
  setPermissions(path: string, permissions: readonly Permission[]): void {
    if (permissions.length === 0) throw new XenstoreError('EINVAL', `${path} needs an owner`);
    const node = this.#existing(path, 'own');
    if (this.#domid !== 0 && permissions[0]?.domid !== this.#domid) {
      throw new XenstoreError('EPERM', `domain ${this.#domid} may not give ${path} away`);
    }
    this.#table.put(path, { ...node, permissions: structuredClone(permissions) });
    this.#report(path, node);
  }

  #existing(path: string, wanted: 'read' | 'own'): TreeNode {
    const node = this.#permitted(path, wanted);
    if (!node) throw missing(path);
    return node;
  }

  /**
   * Undefined where there is no such node and this domain may know that; EACCES where it may not.
   */
  #permitted(path: string, wanted: 'read' | 'write' | 'own'): TreeNode | undefined {
    const node = this.#table.get(path);
    const asked = node ?? this.#nearestAbove(path);
    if (mayAccess(asked.permissions, this.#domid, wanted)) return node;
    throw new XenstoreError('EACCES', `domain ${this.#domid} may not ${wanted} ${path}`);
  }

  #nearestAbove(path: string): TreeNode {
    const above = parentPath(path);
    if (above === undefined) throw new XenstoreError('EIO', 'the store has no root');
    return this.#table.get(above) ?? this.#nearestAbove(above);
  }

  /** Makes the node and its missing parents, empty, with the permissions of the one above. */
  #create(path: string): TreeNode {
    const above = parentPath(path);
    if (above === undefined) throw new XenstoreError('EIO', 'the store has no root');
    const parent = this.#table.get(above) ?? this.#create(above);
    const [owner, ...others] = parent.permissions;
    if (!owner) throw new XenstoreError('EIO', `${above} has no owner`);
    // Domain 0 creates for whoever owns the folder; a guest owns what it creates.
    const inherited = this.#domid === 0 ? owner : { ...owner, domid: this.#domid };
    this.#table.put(above, { ...parent, children: [...parent.children, baseName(path)] });
    this.#table.put(path, { value: '', permissions: [inherited, ...others], children: [] });
    return this.#table.get(path) as TreeNode;
  }

  #removeSubtree(path: string, node: TreeNode, parent: TreeNode, exact: boolean): void {
    for (const name of node.children) {
      const below = childPath(path, name);
      const child = this.#table.get(below);
      if (child) this.#removeSubtree(below, child, node, true);
    }
    this.#table.drop(path);
    this.#changed({ path, exact, seenBy: [node.permissions, parent.permissions] });
  }

  #report(path: string, before: TreeNode): void {
    const above = parentPath(path);
    const nodes = [before, this.#table.get(path), above && this.#table.get(above)];
    const seenBy = nodes.flatMap((node) => (node ? [node.permissions] : []));
    this.#changed({ path, exact: false, seenBy });
  }
}

function missing(path: string): XenstoreError {
  return new XenstoreError('ENOENT', `there is no ${path} in xenstore`);
}
