// Plans: the policies of a table for one role, read once, and asked of many rows and viewers without PostgreSQL.
import type { RowSecurity, TableDescription } from "../../protocol/changes.ts";
import type { Viewer } from "../../protocol/link.ts";
import { parsePolicy } from "./parse.ts";
import { and, Beyond, type Row, type Term, type Value } from "./terms.ts";

/** One way to see a row. */
interface Branch {
  readonly term: Term;
  /** An equality that must hold between the row and the viewer: who it can be is looked up by the row's value. */
  readonly equal: { readonly ofRow: Term; readonly ofViewer: Term } | undefined;
}

/** Viewers arranged for a branch: by what the row must hold, or all whose claims are worth the same together. */
type Arranged =
  | { readonly branch: Branch; readonly ofRow: Term; readonly byValue: ReadonlyMap<Value, Viewer[]> }
  | { readonly branch: Branch; readonly alike: readonly Viewer[][] };

/** The viewers of a plan. `beyond` are those whose claims only PostgreSQL can judge. */
export interface Audience {
  readonly beyond: readonly Viewer[];
  /** Who may see a row, by key. Throws Beyond where only PostgreSQL can say. */
  see(row: Row): string[];
}

/** The plan of a table for a role; undefined where one of its policies is not known how to read. */
export function planOf(
  { columns }: Pick<TableDescription, "columns">,
  { policies, plain, known }: RowSecurity,
  role: string,
): Plan | undefined {
  const own = policies.filter(({ roles }) => roles.includes(role));
  const permissive = own.filter((policy) => policy.permissive);
  // Nothing is shown, whatever the others say.
  if (permissive.length === 0) return new Plan([], []);
  const terms = own.map((policy) => ({ ...policy, term: parsePolicy(policy.using, { columns, plain, known }) }));
  const pick = (isPermissive: boolean): Term[] =>
    terms.flatMap(({ permissive, term }) => (permissive === isPermissive && term !== undefined ? [term] : []));
  return terms.some(({ term }) => term === undefined) ? undefined : new Plan(pick(true), pick(false));
}

export class Plan {
  readonly #forRole: readonly Branch[];
  readonly #forViewers: readonly Branch[];
  readonly #claims: readonly Term[];
  readonly #audiences = new WeakMap<readonly Viewer[], Audience>();

  constructor(permissive: readonly Term[], restrictive: readonly Term[]) {
    const ways = permissive.flatMap((term) => term.any ?? [term]);
    const terms = ways.map((term) => and([term, ...restrictive].flatMap(conjuncts)));
    this.#forRole = terms.filter(({ reads }) => !reads.viewer).map((term) => ({ term, equal: undefined }));
    this.#forViewers = terms.filter(({ reads }) => reads.viewer).map((term) => ({ term, equal: equalityOf(term) }));
    this.#claims = terms.flatMap((term) => [...claimsIn(term)]);
  }

  /** Whether everybody in the role may see a row. Throws Beyond. */
  showsRole(row: Row): boolean {
    return this.#forRole.some(({ term }) => term.value(row, nobody) === true);
  }

  /** Arranges viewers. The same list is arranged once. */
  gather(viewers: readonly Viewer[]): Audience {
    const audience = this.#audiences.get(viewers) ?? this.#gather(viewers);
    this.#audiences.set(viewers, audience);
    return audience;
  }

  #gather(viewers: readonly Viewer[]): Audience {
    if (this.#forViewers.length === 0) return { beyond: [], see: () => [] };
    const beyond: Viewer[] = [];
    const judged = viewers.filter((viewer) => {
      const judgeable = this.#claims.every((claim) => isWithin(() => claim.value({}, viewer)));
      if (!judgeable) beyond.push(viewer);
      return judgeable;
    });
    const arranged = this.#forViewers.map((branch) => arrange(branch, judged));
    return { beyond, see: (row) => arranged.flatMap((one) => seenBy(one, row)) };
  }
}

function arrange(branch: Branch, viewers: readonly Viewer[]): Arranged {
  const { equal, term } = branch;
  if (equal !== undefined) {
    const byValue = Map.groupBy(viewers, (viewer) => equal.ofViewer.value({}, viewer));
    byValue.delete(null);
    return { branch, ofRow: equal.ofRow, byValue };
  }
  const claims = claimsIn(term);
  const worth = (viewer: Viewer): string => JSON.stringify(claims.map((claim) => claim.value({}, viewer)));
  return { branch, alike: [...Map.groupBy(viewers, worth).values()] };
}

const nobody: Viewer = { key: "", role: "", claims: {} };

function seenBy(arranged: Arranged, row: Row): string[] {
  const { term } = arranged.branch;
  if ("byValue" in arranged) {
    const candidates = arranged.byValue.get(arranged.ofRow.value(row, nobody)) ?? [];
    return candidates.filter((viewer) => term.value(row, viewer) === true).map(({ key }) => key);
  }
  return arranged.alike.flatMap((viewers) => {
    const [first] = viewers;
    return first !== undefined && term.value(row, first) === true ? viewers.map(({ key }) => key) : [];
  });
}

function conjuncts(term: Term): readonly Term[] {
  return term.all === undefined ? [term] : term.all.flatMap(conjuncts);
}

/** The terms of a viewer's claims, each as large as it is without a row, and without a choice in which another was not read. */
function claimsIn(term: Term): Term[] {
  if (!term.reads.viewer) return [];
  const isOne = !term.reads.row && term.all === undefined && term.any === undefined;
  return isOne ? [term] : term.parts.flatMap(claimsIn);
}

function isWithin(evaluate: () => Value): boolean {
  try {
    evaluate();
    return true;
  } catch (error) {
    if (error instanceof Beyond) return false;
    throw error;
  }
}

function equalityOf(term: Term): Branch["equal"] {
  for (const { equal } of conjuncts(term)) {
    if (equal === undefined) continue;
    for (const [one, other] of [equal, [equal[1], equal[0]]] as const) {
      if (one.reads.row && !one.reads.viewer && !other.reads.row && other.reads.viewer) {
        return { ofRow: one, ofViewer: other };
      }
    }
  }
  return undefined;
}
