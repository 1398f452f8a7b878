/** @file The lists of passes that make a working copy, in order. normalize.ts applies them. */

import { ALIAS } from './alias.ts'
import { COPY_NODE } from './copy-node.ts'
import { DROP_IDENTITIES } from './drop-identities.ts'
import { DROP_UNREAD_CONSTANTS, DROP_UNREAD_NODES } from './drop-unread.ts'
import { FLOAT32 } from './float32.ts'
import { FOLD_CONSTANTS } from './fold-constants.ts'
import { FOLLOW_ROWS } from './follow-rows.ts'
import { INLINE_FUNCTIONS } from './inline-functions.ts'
import { KNOWN_TENSORS } from './known-tensors.ts'
import { MARK_CONSTANTS } from './mark-constants.ts'
import { MODERNIZE } from './modernize.ts'
import { NO_OPS } from './no-ops.ts'
import type { BodyPass, FactPass, GraphPass, NodePass, ValuePass } from './pass.ts'
import { REFUSE_BODIES } from './refuse-bodies.ts'
import { REFUSE_OVERFLOW } from './refuse-overflow.ts'
import { REWRITE_FUSED } from './rewrite-fused.ts'
import { SHARE_EQUAL } from './share-equal.ts'
import { TAKE_BRANCH } from './take-branch.ts'

/** Applied to a node of the user's graph first: the first that gives a body replaces the node. */
export const BODY_PASSES: readonly BodyPass[] = [INLINE_FUNCTIONS, TAKE_BRANCH]

/** Applied to every other node, until one has written it. */
export const NODE_PASSES: readonly NodePass[] = [
  REFUSE_OVERFLOW,
  ALIAS,
  KNOWN_TENSORS,
  REFUSE_BODIES,
  REWRITE_FUSED,
  MODERNIZE,
  COPY_NODE,
]

/** Applied to every node that the node passes wrote. */
export const FACT_PASSES: readonly FactPass[] = [FOLLOW_ROWS, MARK_CONSTANTS]

/** Applied to every output of a node that was written. */
export const VALUE_PASSES: readonly ValuePass[] = [NO_OPS, FLOAT32]

/** Applied to the whole working copy at the end. */
export const GRAPH_PASSES: readonly GraphPass[] = [
  FOLD_CONSTANTS,
  DROP_UNREAD_NODES,
  DROP_IDENTITIES,
  DROP_UNREAD_CONSTANTS,
  SHARE_EQUAL,
]
