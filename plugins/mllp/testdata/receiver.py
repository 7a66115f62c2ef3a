"""A receiver of HL7 over MLLP on python-hl7 (hl7.mllp), which shares no code with
Hookline. Usage: receiver.py PORT FOLDER LIMIT [CERT KEY [CA]]

It keeps every message in FOLDER/received, synced before it answers. The answer is
what FOLDER/answer says: words of which each is one answer, AA by default.
"""

import asyncio
import base64
import os
import ssl
import sys

import hl7
from hl7.mllp import InvalidBlockError, start_hl7_server

port, folder, limit = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tls = sys.argv[4:]


def answers():
    try:
        with open(os.path.join(folder, "answer")) as f:
            return f.read().split()
    except FileNotFoundError:
        return ["AA"]


def keep(block):
    with open(os.path.join(folder, "received"), "ab") as f:
        f.write(base64.b64encode(block) + b"\n")
        f.flush()
        os.fsync(f.fileno())


async def say(writer, word, message, block):
    if word == "raw":  # an answer that is not in a frame
        writer.write(b"HELLO, Jane-Doe-4711\r\n")
    elif word == "echo":  # a frame that is not an acknowledgement
        writer.writeblock(block)
    elif word == "text":
        writer.writeblock(b"Jane-Doe-4711 is not known")
    elif word == "long":
        writer.writeblock(b"MSH|^~\\&|" + b"x" * 100000)
    elif word == "cut":  # the connection ends within the answer
        writer.write(b"\x0bMSH|^~\\&|")
        await writer.drain()
        writer.close()
    elif word == "close":
        writer.close()
    elif word == "silent":
        pass
    elif word == "wait":
        await asyncio.sleep(0.1)
    else:
        code, _, error = word.partition(":")
        ack = message.create_ack(code)
        if error == "other":
            ack.segment("MSA").assign_field("another-id", 2)
        text = str(ack)
        if not text.endswith("\r"):
            text += "\r"
        if error.isdigit():
            text += "ERR||PID^1^5|%s^Jane-Doe-4711^HL70357|E\r" % error
        elif error.startswith("old"):
            text += "ERR|PID^1^5^%s&Jane-Doe-4711&HL70357\r" % error[3:]
        data = text.encode("utf-8")
        if error == "nocr":
            writer.write(b"\x0b" + data + b"\x1c")
        elif error == "lf":
            writer.writeblock(data.replace(b"\r", b"\n"))
        else:
            writer.writeblock(data)


async def connected(reader, writer):
    try:
        while not reader.at_eof():
            block = await reader.readblock()
            message = hl7.parse(block.decode("latin-1"))
            keep(block)
            for word in answers():
                await say(writer, word, message, block)
            await writer.drain()
    except (asyncio.IncompleteReadError, InvalidBlockError, ValueError, ConnectionError, ssl.SSLError):
        pass  # gone, not MLLP, or longer than the limit
    finally:
        writer.close()


async def main():
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls[0], tls[1])
        if len(tls) > 2:
            context.load_verify_locations(tls[2])
            context.verify_mode = ssl.CERT_REQUIRED
    server = await start_hl7_server(connected, "127.0.0.1", port, limit=limit, encoding="utf-8", ssl=context)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
