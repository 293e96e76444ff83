// Where a map asks for what it shows: the page's server. A file of its own has the answers in it (standalone.js).

// Each answers with a promise, which fails with a text for the user.
export function serverSource(job) {
  const ask = async (path, wanted) => (await answered(`jobs/${job}/${path}?${new URLSearchParams(wanted)}`)).json();
  return {
    key: job,
    takes: ["csv", "fasta"],
    map: (of) => ask("map", of),
    colours: (of, by) => ask("map/colours", { ...of, by }),
    texts: (of) => ask("map/texts", of),
    nearest: (of, ordinal) => ask("map/nearest", { ...of, of: ordinal }),
    spot: (of, ordinal) => ask("map/spot", { ...of, of: ordinal }),
    search: (of, text, from) => ask("map/search", { ...of, text, from }),
    take: async (of, kind, ordinals) => {
      const query = new URLSearchParams(of);
      const sent = { method: "POST", body: JSON.stringify(ordinals) };
      return (await answered(`jobs/${job}/map/selection.${kind}?${query}`, sent)).blob();
    },
  };
}

async function answered(address, init = {}) {
  const response = await fetch(address, init).catch(() => null);
  if (response?.ok) return response;
  const told = await response?.json().catch(() => null);
  throw new Error(told?.error || (response ? `the server failed (${response.status})` : "no connection"));
}
