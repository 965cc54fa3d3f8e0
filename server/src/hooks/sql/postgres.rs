//! A server of PostgreSQL. Connections are kept for the next statement, and made as they were before that.
//!
//! Parameters travel as text, so that the server reads them as the type that the statement wants. Values are told
//! by their type; what has no plain form is an error that says to cast it. How it is reached: `crate::postgres`.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use serde_json::Value;
use session_core::error::Result;
use session_core::event::timestamp;
use session_core::script::Secrets;
use tokio_postgres::Client;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};

use super::super::{invalid, secret_named};
use super::{Answer, Parameter, bytes, count, real, whole};
use crate::config;
use crate::postgres::{Way, failed, url};

/// Seconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH: i64 = 946_684_800;

pub(super) struct Server {
    way: Way,
    write: bool,
    idle: Mutex<Vec<Client>>,
}

impl Server {
    /// Errors: `InvalidArgument` for a secret that is missing.
    pub(super) fn new(name: &str, asked: &config::Database, secrets: &Secrets) -> Result<Self> {
        let url = url(asked.url.as_deref().unwrap_or_default()).map_err(invalid)?;
        let secret = asked.password_secret.as_ref();
        let password = secret.map(|s| secret_named(secrets, s, &format!("[sql.{name}]"))).transpose()?;
        let authorities = asked.authorities.clone();
        let way = Way::new(url, password.as_ref(), !asked.allow_clear, authorities, asked.time);
        Ok(Server { way, write: asked.write, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Client> {
        let (client, mut messages) = self.way.connect().await?;
        tokio::spawn(async move { while messages.next().await.is_some_and(|said| said.is_ok()) {} });
        Ok(client)
    }

    /// Dropped, the connection is closed with what it does.
    pub(super) async fn ask(&self, text: &str, parameters: Vec<Parameter>, most: usize) -> Result<Answer> {
        let kept = std::iter::from_fn(|| self.idle().pop()).find(|c| !c.is_closed());
        let mut client = match kept {
            Some(client) => client,
            None => self.connect().await?,
        };
        let answer = self.run(&mut client, text, parameters, most).await;
        // Whatever a statement has set is unset again: the next handler begins anew.
        if client.batch_execute("DISCARD ALL").await.is_ok() {
            self.idle().push(client);
        }
        answer
    }

    async fn run(
        &self,
        client: &mut Client,
        text: &str,
        parameters: Vec<Parameter>,
        most: usize,
    ) -> Result<Answer> {
        let work = client.build_transaction().read_only(!self.write).start().await.map_err(failed)?;
        let statement = work.prepare(text).await.map_err(failed)?;
        count(statement.params().len(), parameters.len())?;
        let columns = statement.columns().iter().map(|c| c.name().to_owned()).collect();
        let mut answer = Answer::new(columns);
        let rows = work.query_raw(&statement, parameters).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed)?;
            let cell = |n| row.try_get::<_, Cell>(n).map(|c| c.0).map_err(untold);
            answer.push((0..row.len()).map(cell).collect::<Result<_>>()?, most)?;
        }
        // Of what only reads it is how much was read, which is nothing that was changed.
        answer.affected = rows.rows_affected().filter(|_| self.write).unwrap_or_default();
        work.commit().await.map_err(failed)?;
        Ok(answer)
    }
}

fn untold(e: tokio_postgres::Error) -> session_core::error::Error {
    let words = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
    invalid(words)
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parameter(…)")
    }
}

type Failure = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let text = match self {
            Parameter::Bytes(b) => format!("\\x{}", session_core::digest::hex(b)),
            Parameter::Plain(Value::Null) => return Ok(IsNull::Yes),
            Parameter::Plain(Value::String(s)) => s.clone(),
            Parameter::Plain(other) => other.to_string(),
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }
}

/// A value of a row.
struct Cell(Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        value(ty, raw).map(Cell)
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Cell(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn value(ty: &Type, raw: &[u8]) -> Result<Value, Failure> {
    let text = |raw: &[u8]| Value::from(String::from_utf8_lossy(raw).into_owned());
    Ok(match *ty {
        Type::BOOL => bool::from_sql(ty, raw)?.into(),
        Type::INT2 => i16::from_sql(ty, raw)?.into(),
        Type::INT4 => i32::from_sql(ty, raw)?.into(),
        Type::INT8 => whole(i64::from_sql(ty, raw)?),
        Type::OID => u32::from_sql(ty, raw)?.into(),
        Type::FLOAT4 => real(f32::from_sql(ty, raw)?.into()),
        Type::FLOAT8 => real(f64::from_sql(ty, raw)?),
        Type::NUMERIC => numeric(raw).ok_or("a number that is none")?.into(),
        Type::BYTEA => bytes(raw),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::JSON | Type::XML => {
            text(raw)
        }
        // Its first byte is the form's version.
        Type::JSONB => text(raw.get(1..).unwrap_or_default()),
        Type::UUID => uuid::Uuid::from_slice(raw)?.to_string().into(),
        Type::INET => address(raw).ok_or("an address that is none")?.into(),
        Type::DATE => {
            let days = i32::from_be_bytes(raw.try_into()?);
            match days {
                i32::MAX => "infinity".into(),
                i32::MIN => "-infinity".into(),
                days => {
                    let whole = time(i64::from(days) * 86_400 * 1_000_000).ok_or("a date that is none")?;
                    whole.get(..10).unwrap_or(&whole).into()
                }
            }
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => match i64::from_be_bytes(raw.try_into()?) {
            i64::MAX => "infinity".into(),
            i64::MIN => "-infinity".into(),
            micros => time(micros).ok_or("a time that is none")?.into(),
        },
        _ => match ty.kind() {
            Kind::Domain(inner) => value(inner, raw)?,
            Kind::Enum(_) => text(raw),
            _ if ty.name() == "citext" => text(raw),
            _ => return Err(format!("a value of type {} is not told: cast it to text", ty.name()).into()),
        },
    })
}

/// Microseconds of PostgreSQL's clock, as RFC 3339 has it.
fn time(micros: i64) -> Option<String> {
    let since = micros.checked_add(EPOCH.checked_mul(1_000_000)?)?;
    let span = Duration::from_micros(since.unsigned_abs());
    let at = match since < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(span),
        false => SystemTime::UNIX_EPOCH.checked_add(span),
    };
    at.map(timestamp)
}

/// A number of any size: groups of four decimal digits, in the order of the wire.
fn numeric(raw: &[u8]) -> Option<String> {
    let (parts, rest) = raw.as_chunks::<2>();
    let [groups, weight, sign, scale, digits @ ..] = parts else { return None };
    let number = |p: &[u8; 2]| i16::from_be_bytes(*p);
    let (groups, weight, scale) = (number(groups), i32::from(number(weight)), number(scale));
    let sign = match u16::from_be_bytes(*sign) {
        0x0000 => "",
        0x4000 => "-",
        0xc000 => return Some("NaN".into()),
        0xd000 => return Some("Infinity".into()),
        0xf000 => return Some("-Infinity".into()),
        _ => return None,
    };
    if !rest.is_empty() || usize::try_from(groups).ok()? != digits.len() {
        return None;
    }
    let group = |place: i32| -> i16 {
        let at = usize::try_from(weight - place).ok();
        at.and_then(|at| digits.get(at)).map_or(0, number)
    };
    let mut out = String::from(sign);
    if weight < 0 {
        out.push('0');
    }
    for place in (0..=weight).rev() {
        let digits = group(place);
        out.push_str(&if place == weight { digits.to_string() } else { format!("{digits:04}") });
    }
    if scale > 0 {
        let wanted = usize::try_from(scale).ok()?;
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < wanted {
            fraction.push_str(&format!("{:04}", group(place)));
            place -= 1;
        }
        fraction.truncate(wanted);
        out.push('.');
        out.push_str(&fraction);
    }
    Some(out)
}

/// Family, bits, a flag, a length, and the address.
fn address(raw: &[u8]) -> Option<String> {
    let [_, bits, _, _, address @ ..] = raw else { return None };
    let (ip, all) = match address.len() {
        4 => (IpAddr::from(<[u8; 4]>::try_from(address).ok()?), 32),
        16 => (IpAddr::from(<[u8; 16]>::try_from(address).ok()?), 128),
        _ => return None,
    };
    Some(if *bits == all { ip.to_string() } else { format!("{ip}/{bits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_read_exactly() {
        let raw = |groups: &[i16], weight: i16, sign: u16, scale: i16| -> Vec<u8> {
            let head =
                [i16::try_from(groups.len()).unwrap(), weight, i16::from_be_bytes(sign.to_be_bytes()), scale];
            head.iter().chain(groups).flat_map(|n| n.to_be_bytes()).collect()
        };
        // As the documentation of the binary form has them: groups of four digits.
        for (groups, weight, sign, scale, told) in [
            (&[1234, 5678][..], 1, 0, 0, "12345678"),
            (&[1, 5000], 0, 0, 1, "1.5"),
            (&[1, 5000], 0, 0x4000, 3, "-1.500"),
            (&[1], 2, 0, 0, "100000000"),
            (&[5], -2, 0, 8, "0.00000005"),
            (&[], 0, 0, 2, "0.00"),
            (&[], 0, 0xc000, 0, "NaN"),
        ] {
            assert_eq!(numeric(&raw(groups, weight, sign, scale)).unwrap(), told);
        }
        assert_eq!(numeric(&[0, 1]), None);
        assert_eq!(numeric(&raw(&[1], 0, 0, 0)[..9]), None);
    }

    #[test]
    fn times_begin_in_2000() {
        assert!(time(0).unwrap().starts_with("2000-01-01T00:00:00"));
        assert!(time(-1_000_000).unwrap().starts_with("1999-12-31T23:59:59"));
        let date = value(&Type::DATE, &(-1i32).to_be_bytes()).unwrap();
        assert_eq!(date, "1999-12-31");
        assert_eq!(value(&Type::DATE, &i32::MAX.to_be_bytes()).unwrap(), "infinity");
    }
}
