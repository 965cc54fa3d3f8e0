// Id, user and previous command of each live session of a site.
// Usage: FERRYD_API=http://127.0.0.1:2080 FERRYD_TOKEN=ferry_… dotnet run --file Sessions.cs SITE

using System;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Text.Json;

if (args.Length != 1)
{
    Console.Error.WriteLine("name a site");
    return 2;
}

var api = Environment.GetEnvironmentVariable("FERRYD_API") ?? "http://127.0.0.1:2080";
using var client = new HttpClient { BaseAddress = new Uri(api) };
client.DefaultRequestHeaders.Authorization =
    new AuthenticationHeaderValue("Bearer", Environment.GetEnvironmentVariable("FERRYD_TOKEN"));

using var answer = await client.GetAsync("/v1/sessions?site=" + Uri.EscapeDataString(args[0]));
using var body = JsonDocument.Parse(await answer.Content.ReadAsStringAsync());
if (!answer.IsSuccessStatusCode)
{
    Console.Error.WriteLine(body.RootElement.GetProperty("error").GetProperty("message").GetString());
    return 1;
}

foreach (var session in body.RootElement.GetProperty("sessions").EnumerateArray())
{
    string Text(string key) => session.GetProperty(key).GetString() ?? "";
    Console.WriteLine(string.Join("\t", Text("sessionId"), Text("userName"), Text("previousCommand")));
}
return 0;
