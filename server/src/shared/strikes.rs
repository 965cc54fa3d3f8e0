//! Strikes of all nodes: what each of them has counted, so that who spreads guesses over them is found. Those of a
//! site's own protector are counted by its name, apart from the server's and other sites'.
//!
//! A node tells what it has counted, in bunches, and is told in the same breath how heavy all strikes of the
//! addresses in it are, on all nodes. Of two that tell at once, the later one sees both. Rows are kept for as long as
//! their strikes count; times are the database's, so that clocks need not agree.
//!
//! Deliberately absent: what follows (`crate::protector`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use session_core::error::Result;
use tokio_postgres::Client;

use super::Hub;
use crate::postgres::failed;

/// A strike, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whose: the address that strikes are counted for.
    pub(crate) address: IpAddr,
    pub(crate) weight: u32,
    /// How long ago.
    pub(crate) age: Duration,
}

/// What all nodes count of clients that misbehave.
pub(crate) struct Strikes(Arc<Hub>);

impl Strikes {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Strikes(hub)
    }

    /// Forgets what was counted in networks that begin anew, tells `fresh`, and what all strikes of the window weigh
    /// together for each address in it; all of it of this site, or of the server where there is no name. Errors: those of the database: what was told by then is told.
    pub(crate) async fn tell(
        &self,
        site: &str,
        anew: Vec<IpNet>,
        fresh: Vec<Told>,
        window: Duration,
    ) -> Result<Vec<(IpAddr, u32)>> {
        let site = site.to_owned();
        self.0.with(move |client, _| Box::pin(tell(client, site, anew, fresh, window))).await
    }
}

async fn tell(
    client: &mut Client,
    site: String,
    anew: Vec<IpNet>,
    fresh: Vec<Told>,
    window: Duration,
) -> Result<Vec<(IpAddr, u32)>> {
    if !anew.is_empty() {
        let networks: Vec<_> = anew.iter().map(IpNet::to_string).collect();
        let sql = "DELETE FROM ferry_strikes AS s USING unnest($1::text[]) AS n
            WHERE s.site = $2 AND s.address <<= n::inet";
        client.execute(sql, &[&networks, &site]).await.map_err(failed)?;
    }
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let addresses: Vec<_> = fresh.iter().map(|s| s.address.to_string()).collect();
    let weights: Vec<_> = fresh.iter().map(|s| i64::from(s.weight)).collect();
    let ages: Vec<_> = fresh.iter().map(|s| s.age.as_secs_f64()).collect();
    let window = window.as_secs_f64();
    let add = "
        INSERT INTO ferry_strikes (site, address, weight, at, until)
        SELECT $5::text, s.address::inet, s.weight,
            now() - s.age * interval '1 s', now() + ($4 - s.age) * interval '1 s'
        FROM unnest($1::text[], $2::bigint[], $3::float8[]) AS s (address, weight, age)";
    client.execute(add, &[&addresses, &weights, &ages, &window, &site]).await.map_err(failed)?;
    client.execute("DELETE FROM ferry_strikes WHERE until < now()", &[]).await.map_err(failed)?;
    // Another statement, which sees what others have told meanwhile.
    let sum = "
        SELECT host(s.address), least(sum(s.weight), 4294967295)::bigint FROM ferry_strikes AS s
        WHERE s.site = $3 AND s.address = ANY($1::text[]::inet[]) AND s.at > now() - $2 * interval '1 s'
        GROUP BY s.address";
    let rows = client.query(sum, &[&addresses, &window, &site]).await.map_err(failed)?;
    let mut sums = Vec::with_capacity(rows.len());
    for row in rows {
        let (address, sum): (&str, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        if let Ok(address) = address.parse() {
            sums.push((address, u32::try_from(sum).unwrap_or(u32::MAX)));
        }
    }
    Ok(sums)
}
