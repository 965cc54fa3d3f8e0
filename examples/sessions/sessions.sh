#!/bin/sh
# Id, user and previous command of each live session of a site.
# Usage: FERRYD_API=http://127.0.0.1:2080 FERRYD_TOKEN=ferry_… sh sessions.sh SITE
set -eu
site=${1:?name a site}
: "${FERRYD_TOKEN:?}"

# The token comes by standard input: arguments are seen by others.
printf 'header = "Authorization: Bearer %s"\n' "$FERRYD_TOKEN" |
    curl --config - --silent --show-error --fail-with-body --get \
        --data-urlencode "site=$site" "${FERRYD_API:-http://127.0.0.1:2080}/v1/sessions" |
    jq -r '.sessions[] | [.sessionId, .userName, .previousCommand] | @tsv'
