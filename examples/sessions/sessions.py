"""Id, user and previous command of each live session of a site.

Usage: FERRYD_API=http://127.0.0.1:2080 FERRYD_TOKEN=ferry_… python3 sessions.py SITE
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def sessions(site):
    api = os.environ.get("FERRYD_API", "http://127.0.0.1:2080")
    query = urllib.parse.urlencode({"site": site})
    request = urllib.request.Request(f"{api}/v1/sessions?{query}")
    request.add_header("Authorization", "Bearer " + os.environ["FERRYD_TOKEN"])
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["sessions"]


def main():
    if len(sys.argv) != 2:
        sys.exit("name a site")
    try:
        found = sessions(sys.argv[1])
    except urllib.error.HTTPError as e:
        sys.exit(json.load(e)["error"]["message"])
    for s in found:
        print(s["sessionId"], s["userName"], s["previousCommand"], sep="\t")


main()
