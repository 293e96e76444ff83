// What the page knows. `list` and `status` are the server's words, null before the first; `kept` says where the
// board was read: by the server, in the directory, or from memory.

export const page = { job: null, list: null, status: null, kept: "server", cells: [], samples: [] };

const ENDED = ["done", "failed", "cancelled"];

export function hasEnded() {
  return ENDED.includes(page.status?.state);
}
