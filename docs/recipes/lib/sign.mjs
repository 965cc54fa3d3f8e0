// A signature by the secret `partner`.
export const signed = body => 'sha256=' + Hmac('sha256', GetSecret('partner'), body);
