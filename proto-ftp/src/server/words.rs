//! What is said to people: messages with variables.

use bytes::Bytes;
use session_core::event::timestamp;
use session_core::session::Session;
use std::sync::atomic::Ordering;

/// The longest message, lines.
const LINES: usize = 200;

/// The lines of a message, variables filled. A `%` that begins none stays.
pub(super) fn expand(message: &str, session: &Session, site: &str) -> Vec<Bytes> {
    let lines = message.lines().take(LINES).map(|line| Bytes::from(expand_line(line, session, site)));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { vec![Bytes::from_static(b"Ferry")] } else { lines }
}

fn expand_line(line: &str, session: &Session, site: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('%') else {
            out.push('%');
            out.push_str(after);
            return out;
        };
        let stats = session.stats();
        let value = match name {
            "" => "%".to_owned(),
            // As the client sees it.
            "BytesReceived" => stats.downloaded.load(Ordering::Relaxed).to_string(),
            "BytesSent" => stats.uploaded.load(Ordering::Relaxed).to_string(),
            "ClientAddress" => session.peer_address().map(|a| a.to_string()).unwrap_or_default(),
            "SessionID" => session.id().to_string(),
            "SiteName" => site.to_owned(),
            "Time" => timestamp(session.now()),
            "UserName" => session.user_id().to_string(),
            _ => {
                out.push('%');
                rest = after;
                continue;
            }
        };
        out.push_str(&value);
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use session_core::auth::Account;
    use session_core::session::{Protocol, Setup};

    use super::*;

    #[test]
    fn variables_are_filled_and_names_cannot_break_out() {
        let session = Session::new(Setup::new(Protocol::Ftp, "s"));
        session.log_in(Account::named("eve\r\n230 x"), vec![]).unwrap();
        let got = expand("Hi %UserName% of %SiteName%, 100%% sure\n50% %no%such%", &session, "here");
        assert_eq!(got, ["Hi eve\r\n230 x of here, 100% sure", "50% %no%such%"]);
        // Line ends inside a line become spaces when the reply is written.
        let mut out = bytes::BytesMut::new();
        crate::wire::reply::Reply::lines(230, got).encode(&mut out);
        assert_eq!(&out[..], b"230-Hi eve  230 x of here, 100% sure\r\n230 50% %no%such%\r\n");
        assert_eq!(expand("", &session, "s").len(), 1);
    }
}
