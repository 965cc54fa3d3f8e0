//! The protector of a single site: settings, counting and blocks of its own, beside those of the server.
//!
//! What a person entered on the server's lists holds at every site. What a protector blocked by itself holds where it
//! was counted: a strict site keeps nobody out of another one, and a lenient one lets nobody in elsewhere. Its blocks
//! are a file in the site's data folder; they are listed and lifted with the server's.
//!
//! There is one for each site through every reload, as long as the site asks for one. Where nodes share the server's
//! lists they share those of sites of one name, too, and count their strikes together, each site's apart (`shared`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Weak;

use super::*;

/// What makes a protector that of a site.
pub(super) struct OfSite {
    pub(super) name: Arc<str>,
    pub(super) server: Arc<Protector>,
    /// The site's data folder.
    pub(super) folder: PathBuf,
}

impl Protector {
    /// The one of a site, whose block list is in `folder`; its settings are to be set. Blocks. Errors: those of the
    /// file.
    pub fn of_site(self: &Arc<Self>, name: &str, folder: &Path) -> Result<Arc<Self>> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = sites.get(name).and_then(Weak::upgrade) {
            return Ok(there);
        }
        let mut state = State::default();
        *state.of(List::Deny) = BlockList::load(&List::Deny.file(folder))?;
        let folder = folder.to_path_buf();
        // What nodes share is written nowhere else.
        let is_shared = self.lock().tally.is_some();
        let own = (!is_shared).then(|| folder.clone());
        // From its first strike on, also before it is taken up.
        state.tally = is_shared.then(Tally::default);
        let of = OfSite { name: name.into(), server: Arc::clone(self), folder };
        let made = Protector { of: Some(of), ..Protector::with(state, own, Arc::clone(&self.clock)) };
        let made = Arc::new(made);
        // Whoever shares it with others takes it up.
        self.site_changed.notify_one();
        sites.retain(|_, there| there.strong_count() > 0);
        sites.insert(name.into(), Arc::downgrade(&made));
        Ok(made)
    }

    /// Those of single sites.
    pub(super) fn of_sites(&self) -> Vec<Arc<Protector>> {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        sites.values().filter_map(Weak::upgrade).collect()
    }

    /// The site that it is for; `None` for the server's.
    pub(super) fn site(&self) -> Option<&Arc<str>> {
        self.of.as_ref().map(|of| &of.name)
    }

    /// Its list's file before nodes shared it; `None` for the server's.
    pub(super) fn own_file(&self, list: List) -> Option<PathBuf> {
        self.of.as_ref().map(|of| list.file(&of.folder))
    }

    /// Waits until the block list of a site changed, or there is one more.
    pub(crate) async fn site_changed(&self) {
        self.site_changed.notified().await;
    }

    /// Writes the block lists of sites. Blocks. Errors: those of the disk, of the last one that failed.
    pub(crate) fn save_sites(&self) -> Result<()> {
        self.of_sites().iter().map(|site| site.save()).fold(Ok(()), Result::and)
    }

    /// Whether a person put an address there, on a list of the server.
    pub(super) fn is_entered(&self, list: List, address: IpAddr, now: SystemTime) -> bool {
        self.lock().of(list).find_entered(address, seconds(now)).is_some()
    }
}
