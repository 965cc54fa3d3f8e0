//! PROPPATCH (RFC 4918, section 9.2): all of the changes, or none.
//!
//! Changes become one setting of attributes, so that hooks and permissions are asked once. A store that fails
//! in the midst of it is given back what it had.

use hyper::Response;
use session_core::error::{Error, ErrorKind};
use session_core::fs::{Filesystem as _, Follow};
use session_core::metadata::{Attributes, FileType, Metadata};

use super::properties::{Effect, change};
use super::respond::{Answer, Body, XML, with_body};
use super::service::Call;
use super::{guard, tree};
use crate::status;
use crate::wire::multistatus::{self, Propstat, Value};
use crate::wire::proppatch::{self as update, Change};
use crate::wire::xml::Name;

/// Changes put together.
struct Sum {
    attributes: Attributes,
    /// What nobody may do, with why.
    refused: Vec<(Name, &'static str)>,
    invalid: Vec<Name>,
    names: Vec<Name>,
}

impl Sum {
    fn of(changes: &[Change], there: &Metadata) -> Self {
        let mut sum = Sum {
            attributes: Attributes::none(),
            refused: Vec::new(),
            invalid: Vec::new(),
            names: Vec::new(),
        };
        for one in changes {
            let name = one.name();
            let set = match one {
                Change::Set(element) => Some(element),
                Change::Remove(_) => None,
            };
            if !sum.names.contains(name) {
                sum.names.push(name.clone());
            }
            match change(name, set, there, &mut sum.attributes) {
                Effect::Kept => {
                    sum.attributes.properties.insert(name.key(), set.map(update::value));
                }
                Effect::Live => {}
                Effect::Protected => sum.refused.push((name.clone(), "cannot-modify-protected-property")),
                Effect::Invalid => sum.invalid.push(name.clone()),
            }
        }
        sum
    }

    fn is_possible(&self) -> bool {
        self.refused.is_empty() && self.invalid.is_empty()
    }

    /// What became of each, when something is not possible.
    fn groups(&self) -> Vec<Propstat> {
        let group = |status, names: Vec<Name>, condition| Propstat {
            status,
            properties: names.into_iter().map(|n| (n, Value::Empty)).collect(),
            condition,
        };
        let refused: Vec<_> = self.refused.iter().map(|(n, _)| n.clone()).collect();
        let bad = |n: &&Name| !refused.contains(n) && !self.invalid.contains(n);
        let rest: Vec<_> = self.names.iter().filter(bad).cloned().collect();
        let condition = self.refused.first().map(|(_, c)| *c);
        vec![group(403, refused, condition), group(409, self.invalid.clone(), None), group(424, rest, None)]
    }
}

pub(super) async fn patch(mut call: Call) -> Answer {
    let body = tree::take(&mut call).await?;
    let changes = update::parse(&body)?;
    let path = call.target.path.clone();
    let there = call.fs.stat(&path, Follow::Yes).await?;
    guard::check(&call, Some(&there))?;
    let sum = Sum::of(&changes, &there);
    if !sum.is_possible() {
        return Ok(answer(&call, there.is_dir(), &sum.groups()));
    }
    let done = call.fs.set_attributes(&path, &sum.attributes, Follow::Yes).await;
    let status = match done {
        Ok(()) => 200,
        Err(e) if matches!(e.kind(), ErrorKind::Locked | ErrorKind::NotFound | ErrorKind::Canceled) => {
            return Err(guard::locked(&call, &path, e));
        }
        Err(e) => {
            give_back(&call, &sum.attributes, &there).await;
            of_failure(&e)
        }
    };
    let properties = sum.names.iter().map(|n| (n.clone(), Value::Empty)).collect();
    Ok(answer(&call, there.is_dir(), &[Propstat { status, properties, condition: None }]))
}

/// The status of properties that could not be set.
fn of_failure(e: &Error) -> u16 {
    match e.kind() {
        // The store keeps none, or not these.
        ErrorKind::Unsupported => 403,
        // Together they are too much for it.
        ErrorKind::TooLarge => 507,
        kind => status::code(kind),
    }
}

/// Sets properties that were changed to what they were. Best effort: what failed once may fail again.
async fn give_back(call: &Call, changed: &Attributes, there: &Metadata) {
    let Some(had) = &there.properties else { return };
    let before = changed.properties.keys().map(|k| (k.clone(), had.get(k).cloned()));
    let before = Attributes { properties: before.collect(), ..Attributes::none() };
    if before.properties.is_empty() {
        return;
    }
    let now = call.fs.stat(&call.target.path, Follow::Yes).await.ok();
    if now.is_some_and(|m| m.properties != there.properties) {
        let _ = call.fs.set_attributes(&call.target.path, &before, Follow::Yes).await;
    }
}

fn answer(call: &Call, is_dir: bool, groups: &[Propstat]) -> Response<Body> {
    let mut out = multistatus::HEAD.to_owned();
    multistatus::properties(&call.href(&call.target.path, is_dir), groups, &mut out);
    out.push_str(multistatus::TAIL);
    with_body(207, XML, out)
}

/// What a new directory is made with. The error is the answer: what cannot be set (RFC 5689, section 3).
pub(super) fn of_new_directory(call: &Call, changes: &[Change]) -> Result<Attributes, Box<Response<Body>>> {
    let nothing = Metadata::new(FileType::Directory, 0);
    let mut others = Vec::new();
    let mut wrong_type = false;
    for change in changes {
        match change {
            Change::Set(element) if element.name.is_dav("resourcetype") => {
                // Of all types there are directories alone.
                let types: Vec<_> = element.elements().collect();
                wrong_type |= !matches!(types.as_slice(), [one] if one.name.is_dav("collection"));
            }
            other => others.push(other.clone()),
        }
    }
    let mut sum = Sum::of(&others, &nothing);
    if wrong_type {
        sum.refused.push((Name::dav("resourcetype"), "valid-resourcetype"));
    }
    if !call.fs.capabilities().properties {
        sum.refused.extend(
            sum.attributes
                .properties
                .keys()
                .filter_map(|k| Name::from_key(k))
                .map(|n| (n, "cannot-modify-protected-property")),
        );
    }
    if sum.is_possible() {
        return Ok(sum.attributes);
    }
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:mkcol-response xmlns:D=\"DAV:\">");
    multistatus::propstats(&sum.groups(), &mut out);
    out.push_str("</D:mkcol-response>\n");
    Err(with_body(403, XML, out).into())
}
