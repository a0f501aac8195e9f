"""One unary call with Python's gRPC library, as docs/clients.md shows it.

Arguments: target, authority (empty for the library's own), method, request in hexadecimal digits.
Prints the code on the first line, and then the response in hexadecimal digits or the message.
"""

import sys

import grpc


def unchanged(message):
    return message


def main():
    target, authority, method, request = sys.argv[1:]
    options = [("grpc.default_authority", authority)] if authority else []
    with grpc.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(f"/{method}", request_serializer=unchanged, response_deserializer=unchanged)
        try:
            response = call(bytes.fromhex(request), timeout=20)
        except grpc.RpcError as error:
            print(error.code().name)
            print(error.details())
        else:
            print("OK")
            print(response.hex())


sys.stdout.reconfigure(encoding="utf-8")
main()
