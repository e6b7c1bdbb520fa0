"""Runs inside: a frame is a program, the answer is what it achieved; a frame after `=` is answered as it is."""


def entry(receive, send):
    import json

    while (frame := receive()) is not None:
        if frame.startswith(b"="):
            send(frame[1:])
            continue
        sent = json.loads(frame)
        names = dict(sent["names"])
        exec(sent["prelude"], names)
        exec(sent["program"], names)
        send(json.dumps(names["escapes"]).encode())
