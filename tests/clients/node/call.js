// One unary call with Node's gRPC library, as docs/clients.md shows it.
//
// Arguments: target, authority (empty for the library's own), method, request in hexadecimal digits.
// Prints the code on the first line, and then the response in hexadecimal digits or the message.

const grpc = require("@grpc/grpc-js");

const [target, authority, method, request] = process.argv.slice(2);
const options = authority ? { "grpc.default_authority": authority } : {};
const client = new grpc.Client(target, grpc.credentials.createInsecure(), options);
const unchanged = (message) => message;
const deadline = Date.now() + 20_000;
const bytes = Buffer.from(request, "hex");
client.makeUnaryRequest(`/${method}`, unchanged, unchanged, bytes, { deadline }, (error, response) => {
  console.log(error ? grpc.status[error.code] : "OK");
  console.log(error ? error.details : response.toString("hex"));
  client.close();
});
