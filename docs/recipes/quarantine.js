// Archives of people outside the group staff are put where only the staff looks. The client is told of a
// success; the account needs leave to write to /quarantine, and none to read it.
const archives = ['.zip', '.rar', '.7z', '.iso'];

const user = Session.GetUser();
if (!user.GetGroups().includes('staff') && archives.includes(ExtractExt(CtxRelPath()).toLowerCase())) {
  const name = CtxRelPath().slice(CtxRelPath().lastIndexOf('/') + 1);
  Session.RedirectTo('/quarantine/' + user.GetName() + '-' + Session.GetID().slice(-8) + '-' + name);
}
