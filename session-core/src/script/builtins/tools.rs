//! The natives for digests and encodings, secrets, shared values and the host.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rquickjs::{Ctx, Exception, Function, Object, Result, TypedArray};

use super::session::path_of;
use super::{Slot, bytes, content, thrown};
use crate::digest::{Hasher, hex};
use crate::fs::{Algorithm, Filesystem as _, OpenOptions};
use crate::gate::SessionFs;
use crate::path::display_bytes;
use crate::script::grants::Grant;
use crate::script::invocation::Invocation;
use crate::script::services::HostFunction;

pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    encodings(ctx, native)?;
    digests(ctx, native)?;
    kept(ctx, native, slot)?;
    host(ctx, native, slot)
}

fn encodings<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set(
        "base64Encode",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, data: rquickjs::String<'js>| -> Result<String> {
            Ok(STANDARD.encode(content(&ctx, &data)?))
        })?,
    )?;
    native.set(
        "base64Decode",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, text: String| -> Result<TypedArray<'js, u8>> {
            let data =
                STANDARD.decode(text.trim()).map_err(|_| Exception::throw_type(&ctx, "this is no base64"))?;
            bytes(&ctx, data)
        })?,
    )?;
    native.set(
        "hexEncode",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, data: rquickjs::String<'js>| -> Result<String> {
            Ok(hex(&content(&ctx, &data)?))
        })?,
    )?;
    native.set(
        "hexDecode",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, text: String| -> Result<TypedArray<'js, u8>> {
            let data = unhex(&text).ok_or_else(|| Exception::throw_type(&ctx, "this is not hexadecimal"))?;
            bytes(&ctx, data)
        })?,
    )?;
    native.set(
        "textToBytes",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, text: rquickjs::String<'js>| -> Result<TypedArray<'js, u8>> {
                let data = content(&ctx, &text)?;
                bytes(&ctx, data)
            },
        )?,
    )?;
    native.set(
        "bytesToText",
        Function::new(ctx.clone(), |ctx: Ctx<'js>, data: rquickjs::String<'js>| -> Result<String> {
            Ok(String::from_utf8_lossy(&content(&ctx, &data)?).into_owned())
        })?,
    )
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |b: u8| char::from(b).to_digit(16);
    let pair = |p: &[u8; 2]| u8::try_from(digit(p[0])? * 16 + digit(p[1])?).ok();
    if rest.is_empty() { pairs.iter().map(pair).collect() } else { None }
}

fn digest(algorithm: Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Hasher::new(algorithm);
    for part in parts {
        hasher.update(part);
    }
    hasher.finish().to_vec()
}

/// RFC 2104.
fn hmac(algorithm: Algorithm, key: &[u8], data: &[u8]) -> Vec<u8> {
    let block = match algorithm {
        Algorithm::Sha384 | Algorithm::Sha512 => 128,
        _ => 64,
    };
    let mut key = if key.len() > block { digest(algorithm, &[key]) } else { key.to_vec() };
    key.resize(block, 0);
    let with = |pad: u8| key.iter().map(|b| b ^ pad).collect::<Vec<u8>>();
    let inner = digest(algorithm, &[&with(0x36), data]);
    digest(algorithm, &[&with(0x5c), &inner])
}

fn algorithm(ctx: &Ctx<'_>, name: &str) -> Result<Algorithm> {
    Algorithm::parse(name).ok_or_else(|| {
        let known: Vec<_> = Algorithm::ALL.iter().map(|a| a.name()).collect();
        Exception::throw_type(ctx, &format!("the algorithm is one of {}", known.join(", ")))
    })
}

fn digests<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set(
        "hash",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>, name: String, data: rquickjs::String<'js>| -> Result<String> {
                Ok(hex(&digest(algorithm(&ctx, &name)?, &[&content(&ctx, &data)?])))
            },
        )?,
    )?;
    native.set(
        "hmac",
        Function::new(
            ctx.clone(),
            |ctx: Ctx<'js>,
             name: String,
             key: rquickjs::String<'js>,
             data: rquickjs::String<'js>|
             -> Result<String> {
                let algorithm = algorithm(&ctx, &name)?;
                if algorithm == Algorithm::Crc32 {
                    return Err(Exception::throw_type(&ctx, "a checksum signs nothing"));
                }
                Ok(hex(&hmac(algorithm, &content(&ctx, &key)?, &content(&ctx, &data)?)))
            },
        )?,
    )
}

fn kept<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "secret",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| -> Result<String> {
            let invocation = s.get(&ctx)?;
            invocation.needs(Grant::Secrets).map_err(|e| thrown(&ctx, &e))?;
            let secret = invocation.services.secrets.get(&name).cloned().ok_or_else(|| {
                let name = display_bytes(name.as_bytes());
                Exception::throw_message(&ctx, &format!("there is no secret '{name}'"))
            })?;
            let text = secret.expose().to_string();
            invocation.was_read(secret);
            Ok(text)
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "kept",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, key: String| -> Result<Option<String>> {
            let invocation = s.get(&ctx)?;
            invocation.needs(Grant::Store).map_err(|e| thrown(&ctx, &e))?;
            Ok(invocation.services.values.get(&key, Instant::now()))
        })?,
    )?;
    let s = slot.clone();
    native.set(
        "keep",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>,
                  how: String,
                  key: String,
                  value: String,
                  by: f64,
                  seconds: Option<f64>|
                  -> Result<f64> {
                let invocation = s.get(&ctx)?;
                invocation.needs(Grant::Store).map_err(|e| thrown(&ctx, &e))?;
                let (values, now) = (&invocation.services.values, Instant::now());
                let lasts = seconds.map(|s| Duration::from_secs_f64(s.clamp(0.001, 1e9)));
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "the prelude lets only whole numbers pass"
                )]
                let by = by as i64;
                #[allow(clippy::cast_precision_loss, reason = "sums are bounded by 2^53")]
                let done = match how.as_str() {
                    "add" => values.add(&key, value, lasts, now).map(|b| f64::from(u8::from(b))),
                    "delete" => Ok(f64::from(u8::from(values.delete(&key, now)))),
                    "increment" => values.increment(&key, by, lasts, now).map(|n| n as f64),
                    _ => values.set(&key, value, lasts, now).map(|()| 0.0),
                };
                done.map_err(|e| thrown(&ctx, &e))
            },
        )?,
    )
}

fn host<'js>(ctx: &Ctx<'js>, native: &Object<'js>, slot: &Slot) -> Result<()> {
    let s = slot.clone();
    native.set(
        "host",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, name: String, arguments: String, file: Option<Vec<u16>>| -> Result<String> {
                let invocation = s.get(&ctx)?;
                let function = match name.as_str() {
                    "exec" => HostFunction::Exec,
                    "fetch" => HostFunction::Fetch,
                    "report" => HostFunction::Report,
                    "mail" => HostFunction::Mail,
                    "sessions" => HostFunction::Sessions,
                    "sql" => HostFunction::Sql,
                    _ => HostFunction::Run,
                };
                if let Some(grant) = function.grant() {
                    invocation.needs(grant).map_err(|e| thrown(&ctx, &e))?;
                }
                let Some(host) = invocation.services.host.clone() else {
                    return Err(Exception::throw_message(&ctx, "there is nothing here that does this"));
                };
                let arguments = serde_json::from_str(&arguments)
                    .map_err(|_| Exception::throw_type(&ctx, "the arguments are not right"))?;
                let input = match file {
                    Some(path) => Some((opener(&ctx, &invocation)?, path_of(&ctx, &invocation, &path)?)),
                    None => None,
                };
                let work = async {
                    let input = match input {
                        Some((files, path)) => Some(files.open(&path, &OpenOptions::read()).await?),
                        None => None,
                    };
                    host.call(function, arguments, input).await
                };
                Ok(invocation.wait(work).map_err(|e| thrown(&ctx, &e))?.to_string())
            },
        )?,
    )
}

/// The user's files, for a function of the host that reads one.
fn opener(ctx: &Ctx<'_>, invocation: &Invocation) -> Result<SessionFs> {
    invocation.needs(Grant::Files).map_err(|e| thrown(ctx, &e))?;
    invocation.files().ok_or_else(|| Exception::throw_message(ctx, "there are no files in this event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_the_published_vectors() {
        // RFC 4231, test cases 2 and 6; RFC 2202, test case 1.
        let sign = |a, k: &[u8], d: &[u8]| hex(&hmac(a, k, d));
        assert_eq!(
            sign(Algorithm::Sha256, b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            sign(Algorithm::Sha256, &[0xaa; 131], long),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        assert_eq!(
            sign(Algorithm::Sha1, &[0x0b; 20], b"Hi There"),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
    }

    #[test]
    fn hexadecimal_is_whole_or_none() {
        assert_eq!(unhex("00fF").unwrap(), [0, 255]);
        assert_eq!(unhex(""), Some(Vec::new()));
        assert!(unhex("0").is_none() && unhex("zz").is_none() && unhex("é").is_none());
    }
}
