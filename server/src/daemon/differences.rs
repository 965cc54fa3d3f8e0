//! What a reload changed, in words, and what it cannot change. It compares and says; what is put in force is not
//! decided here.

use crate::config::Config;

/// What an operator wants to read of a reload, and what it cannot change.
pub(super) fn told(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let (before, after) = (old.each_site(), new.each_site());
    let of = |sites: &[Config], name: &str| sites.iter().find(|s| s.site == name).cloned();
    for site in &after {
        match of(&before, &site.site) {
            None => out.push(format!("added site '{}'", site.site)),
            Some(then) => {
                let (said, several) = (out.len(), site.one_of_several);
                told_of_a_site(&then, site, &mut out);
                for words in out.iter_mut().skip(said).filter(|_| several) {
                    words.push_str(&format!(" of site '{}'", site.site));
                }
            }
        }
    }
    let gone = before.iter().filter(|s| of(&after, &s.site).is_none());
    out.extend(gone.map(|s| format!("removed site '{}'", s.site)));
    if old.limits != new.limits {
        out.push("other limits".into());
    }
    if old.gateways != new.gateways {
        out.push("other gateways".into());
    }
    if old.outbox != new.outbox {
        out.push("other settings of the outbox".into());
    }
    let mut later = |differs: bool, what: &str| {
        if differs {
            out.push(format!("not before the next start: {what}"));
        }
    };
    later(old.data != new.data || old.control != new.control, "data folder and control socket");
    later(old.database != new.database, "the database that nodes share");
    later(old.admin != new.admin, "the API over the network");
    later(old.outbox.fsync != new.outbox.fsync, "whether the outbox is flushed to disk");
    later(old.log.format != new.log.format, "the format of the log");
    out
}

fn told_of_a_site(old: &Config, new: &Config, out: &mut Vec<String>) {
    let find = |config: &Config, name: &str| config.users.iter().find(|u| u.name == name).cloned();
    for user in &new.users {
        match find(old, &user.name) {
            None => out.push(format!("added user '{}'", user.name)),
            Some(before) if before != *user => out.push(format!("changed user '{}'", user.name)),
            Some(_) => {}
        }
    }
    let gone = old.users.iter().filter(|u| find(new, &u.name).is_none());
    out.extend(gone.map(|u| format!("removed user '{}'", u.name)));
    if old.hooks != new.hooks {
        out.push("other hooks".into());
    }
    if old.webhooks != new.webhooks || old.commands != new.commands {
        out.push("other webhooks or commands".into());
    }
    if old.speeds != new.speeds {
        out.push("other limits of speed".into());
    }
    if new.one_of_several && old.limits != new.limits {
        out.push("other limits".into());
    }
    if old.protector != new.protector || old.guards_itself != new.guards_itself {
        out.push("another protector".into());
    }
    if old.scan != new.scan {
        out.push("other scanners".into());
    }
    if old.directories != new.directories {
        out.push("other directories".into());
    }
    if old.staging != new.staging || old.fsync != new.fsync {
        out.push("not before the next start: staging and fsync of homes in use".into());
    }
}
