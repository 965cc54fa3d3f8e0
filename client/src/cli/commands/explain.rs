//! `explain`: how a server would be reached, trusted and entered, without doing so.

use serde_json::json;
use session_core::error::{Error, ErrorKind, Result};
use session_core::path::display_bytes;

use super::Context;
use crate::cli::args::Explain;
use crate::cli::lines;
use crate::cli::render::{self, Out};
use crate::connect;
use crate::url::Location;

/// Where values begin.
const WIDTH: usize = 22;

pub(super) async fn explain(cx: &mut Context, a: &Explain) -> Result<()> {
    let mut out = Out::new();
    for text in &a.places {
        let shown = one(cx, text, &mut out).await;
        out.flush();
        if let Err(e) = shown {
            cx.complain(&e);
        }
    }
    Ok(())
}

async fn one(cx: &mut Context, text: &str, out: &mut Out) -> Result<()> {
    let Location::Remote(url) = Location::parse(text)? else {
        let words = format!("'{text}' is not a URL of a server");
        return Err(Error::new(ErrorKind::InvalidArgument).with_detail(words));
    };
    let options = cx.places.options(&url).await?;
    let told = connect::explain(options).await?;
    for setting in &told.settings {
        if cx.global.json {
            let (name, values) = (setting.name, &setting.values);
            out.json(&lines::SETTING, json!({ "place": url.to_string(), "name": name, "values": values }));
            continue;
        }
        for (n, value) in setting.values.iter().enumerate() {
            let name = if n == 0 { setting.name } else { "" };
            out.line(&format!("{name:<WIDTH$}{}", display_bytes(value.as_bytes())));
        }
    }
    out.flush();
    for warning in &told.warnings {
        render::warn(warning, cx.global.json);
    }
    Ok(())
}
