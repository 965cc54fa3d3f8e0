// Who logs in for the first time finds in the home what stands in a template. Homes are folders of /srv/homes
// by the accounts' names. The home appears whole: a handler that fails leaves none, and the next login tries again.
const homes = new VirtualFS(VfsTypeDisk, '/srv/homes'), template = new VirtualFS(VfsTypeDisk, '/srv/template');
const good = (what, r) => { if (!r.Ok()) throw new Error(what + ': ' + r.ErrorMsg()); return r; };

function fill(from, to) {
  for (const entry of good(from, template.ReadDir(from)).Infos()) {
    const source = from + entry.Name, target = to + entry.Name;
    if (entry.IsDir) {
      good(target, homes.Mkdir(target));
      fill(source + '/', target + '/');
    } else if (entry.Type === 'file') {
      good(target, template.CopyToVFS(source, homes, target));
    }
  }
}

const home = '/' + Session.GetUserID();
if (!homes.Stat(home).Ok()) {
  const draft = '/.new-' + Session.GetID();
  good(draft, homes.Mkdir(draft));
  fill('/', draft + '/');
  good(home, homes.Rename(draft, home));
}
