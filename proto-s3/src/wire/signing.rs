//! How a request says that it is signed (Signature Version 4, "Authenticating requests: using the Authorization header"
//! and "using query parameters"), before anything of it is verified.

/// How a request is signed, with the names of the fields that are, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Not at all, or in a form of POST.
    Not,
    /// By its `Authorization` field.
    Head(Vec<String>),
    /// By its URL.
    Query(Vec<String>),
}

/// Why it is not to be looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In two ways at once.
    Twice,
    /// By Signature Version 2, or whatever else.
    Old,
    /// As Signature Version 4, and not understood.
    Malformed,
}

/// How a request with this query and these `Authorization` fields is signed.
pub fn of<'a>(query: &str, mut fields: impl Iterator<Item = &'a [u8]>) -> Result<Signing, Fault> {
    let parameter = |name: &str| {
        query.split('&').find_map(|p| {
            let (key, value) = p.split_once('=').unwrap_or((p, ""));
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let (field, more) = (fields.next(), fields.next());
    let in_query = parameter("X-Amz-Signature").is_some();
    let old = parameter("AWSAccessKeyId").is_some() || parameter("Signature").is_some();
    if more.is_some() || (field.is_some() && (in_query || old)) {
        return Err(Fault::Twice);
    }
    if old {
        return Err(Fault::Old);
    }
    if in_query {
        let names = parameter("X-Amz-SignedHeaders").unwrap_or_default();
        let names = percent_encoding::percent_decode_str(names).decode_utf8_lossy();
        return Ok(Signing::Query(listed(&names)));
    }
    let Some(field) = field else { return Ok(Signing::Not) };
    let field = std::str::from_utf8(field).map_err(|_| Fault::Malformed)?;
    let rest = field.strip_prefix("AWS4-HMAC-SHA256").ok_or(Fault::Old)?;
    let names = rest.split(',').find_map(|p| p.trim().strip_prefix("SignedHeaders="));
    Ok(Signing::Head(listed(names.ok_or(Fault::Malformed)?)))
}

fn listed(names: &str) -> Vec<String> {
    names.split(';').map(str::to_ascii_lowercase).collect()
}

/// The region that an `Authorization` field is signed for.
pub fn region(field: &str) -> Option<&str> {
    let credential = field.split(['=', ',', ' ']).skip_while(|w| *w != "Credential").nth(1)?;
    credential.split('/').rev().nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request, \
                          SignedHeaders=Host;x-amz-date, Signature=00";
    const QUERY: &str = "X-Amz-SignedHeaders=host%3Brange&X-Amz-Signature=00";

    fn judged(query: &str, fields: &[&[u8]]) -> Result<Signing, Fault> {
        of(query, fields.iter().copied())
    }

    #[test]
    fn a_signature_names_its_fields() {
        assert_eq!(judged("", &[]), Ok(Signing::Not));
        assert_eq!(judged("", &[HEAD]), Ok(Signing::Head(vec!["host".into(), "x-amz-date".into()])));
        assert_eq!(judged(QUERY, &[]), Ok(Signing::Query(vec!["host".into(), "range".into()])));
        assert_eq!(region(std::str::from_utf8(HEAD).unwrap()), Some("r"));
        assert_eq!(region("Basic eDp5"), None);
    }

    #[test]
    fn one_way_to_sign_and_no_old_one() {
        assert_eq!(judged(QUERY, &[HEAD]), Err(Fault::Twice));
        assert_eq!(judged("", &[HEAD, HEAD]), Err(Fault::Twice));
        for (query, field) in [
            ("AWSAccessKeyId=K&Expires=1&Signature=x", None),
            ("", Some(&b"AWS K:x"[..])),
            ("", Some(b"Basic eDp5")),
        ] {
            let fields: Vec<_> = field.into_iter().collect();
            assert_eq!(judged(query, &fields), Err(Fault::Old), "{query}");
        }
        assert_eq!(judged("", &[b"AWS4-HMAC-SHA256 Credential=K"]), Err(Fault::Malformed));
        assert_eq!(judged("", &[b"AWS4-HMAC-SHA256 \xff"]), Err(Fault::Malformed));
    }
}
