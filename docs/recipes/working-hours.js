// Accounts with `hours = "8-18"` in their `custom` table work then, by the server's clock; others always.
const hours = /^(\d+)-(\d+)$/.exec(Session.GetUser().GetCustom('hours'));
const now = new Date().getHours();
if (hours && !(now >= Number(hours[1]) && now < Number(hours[2]))) {
  Log('out of hours:', Session.GetUserID());
  Session.Terminate('outside working hours');
}
