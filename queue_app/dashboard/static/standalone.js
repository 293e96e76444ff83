// A map in a file of its own: all answers are in the file, and nothing is asked of anybody.

import { openMap } from "./embeddings.js";
import { $, put } from "./words.js";

const LISTED = 50;

function fileSource({ title, map, texts, fasta, colours }) {
  const placeOf = new Map(map.ordinals.map((ordinal, place) => [ordinal, place]));
  return {
    key: title,
    takes: fasta.length ? ["fasta"] : [],
    map: async () => map,
    colours: async (of, by) => colours[by],
    texts: async () => texts,
    search: async (of, text) => search(map, texts, text.toLowerCase()),
    take: async (of, kind, ordinals) => new Blob(ordinals.map((each) => fasta[placeOf.get(each)]), { type: "text/plain" }),
  };
}

function search(map, texts, wanted) {
  const has = (place) => map.ids[place].toLowerCase().includes(wanted) || texts[place].toLowerCase().includes(wanted);
  const isExact = (place) => map.ids[place].toLowerCase().split("|").includes(wanted);
  const places = map.ids.map((_, place) => place).filter(has);
  const first = [...places.filter(isExact), ...places.filter((place) => !isExact(place))].slice(0, LISTED);
  const hits = first.map((place) => ({ ordinal: map.ordinals[place], id: map.ids[place], excerpt: texts[place], copies: 1 }));
  return { count: places.length, hits, drawn: places.map((place) => map.ordinals[place]), texts: true, num_parts: 1, next: null };
}

const data = JSON.parse($("data").textContent);
put("title", data.title);
put("about", data.about);
$("embeddings").hidden = false;
openMap(fileSource(data), data.title);
