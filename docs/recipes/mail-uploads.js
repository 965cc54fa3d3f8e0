// A session that has uploaded ends with a mail that lists it. One file for two events: what arrives is noted, and
// sent when the connection closes.
if (CtxEvent() === 'AfterFileUpload') {
  Session.AddCustomData(CtxRelPath());
} else if (Session.GetAllCustomData().length > 0) {
  const list = Session.GetAllCustomData().join('\n');
  SendMail('', 'incoming@example.com', 'Uploaded by ' + Session.GetUserID(), list, '');
}
