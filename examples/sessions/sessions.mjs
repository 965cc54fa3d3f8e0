// Id, user and previous command of each live session of a site.
// Usage: FERRYD_API=http://127.0.0.1:2080 FERRYD_TOKEN=ferry_… node sessions.mjs SITE

const [site] = process.argv.slice(2);
if (!site) {
    console.error("name a site");
    process.exit(2);
}

const url = new URL("/v1/sessions", process.env.FERRYD_API ?? "http://127.0.0.1:2080");
url.searchParams.set("site", site);
const answer = await fetch(url, { headers: { Authorization: `Bearer ${process.env.FERRYD_TOKEN}` } });
const { sessions, error } = await answer.json();
if (error) {
    console.error(error.message);
    process.exit(1);
}
for (const s of sessions) {
    console.log([s.sessionId, s.userName, s.previousCommand].join("\t"));
}
