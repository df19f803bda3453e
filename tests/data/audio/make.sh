#!/bin/sh
# Makes the small sound files that tests/audio.rs reads: a second (in bulky formats a quarter) of a 440 Hz tone at half of full scale (−6 dB) in
# every format and a few odd shapes. Needs ffmpeg (with libmp3lame, libvorbis, libopus) and python3.
set -eu
cd "$(dirname "$0")"

# tone RATE CHANNELS OUTPUT [OPTIONS...]
tone() {
    rate=$1 channels=$2 output=$3
    shift 3
    ffmpeg -hide_banner -loglevel error -y -bitexact -f lavfi \
        -i "aevalsrc=0.5*sin(2*PI*440*t):s=$rate:d=1" -ac "$channels" -af "pan=${channels}c|c0=c0$([ "$channels" = 2 ] && echo '|c1=c0')" \
        -map_metadata -1 -flags:a +bitexact -fflags +bitexact "$@" "$output"
}

tone 44100 2 stereo-44100.mp3 -c:a libmp3lame -b:a 48k
tone 16000 1 mono-16000-no-info.mp3 -c:a libmp3lame -b:a 24k -write_xing 0 -id3v2_version 0
tone 44100 2 stereo-44100.m4a -c:a aac -b:a 64k
tone 16000 1 mono-16000.aac -c:a aac -b:a 32k
tone 8000 1 mono-8000.flac -c:a flac -sample_fmt s16 -t 0.25
tone 44100 2 stereo-44100.ogg -c:a libvorbis -q:a 0
tone 48000 1 mono.opus -c:a libopus -b:a 12k
tone 48000 2 stereo.opus -c:a libopus -b:a 32k
tone 8000 1 extensible-s24.wav -c:a pcm_s24le -t 0.25

# Bit-exact partners: the same 16-bit samples as WAV and FLAC.
python3 - <<'PYTHON'
import math, random, struct, wave
random.seed(1)
samples = [round(16000 * math.sin(2 * math.pi * (200 + n / 8) * n / 16000)) + random.randint(-9, 9) for n in range(1600)]
with wave.open("chirp-s16.wav", "wb") as file:
    file.setparams((1, 2, 16000, 0, "NONE", ""))
    file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
PYTHON
ffmpeg -hide_banner -loglevel error -y -i chirp-s16.wav -map_metadata -1 -flags:a +bitexact -fflags +bitexact chirp-s16.flac

# FFmpeg pads FLAC headers with 8 kB for later tags.
python3 - chirp-s16.flac mono-8000.flac <<'PYTHON'
import sys
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    blocks, at, last = [], 4, False
    while not last:
        last, kind, size = data[at] >> 7, data[at] & 127, int.from_bytes(data[at + 1 : at + 4], "big")
        if kind != 1:
            blocks.append(data[at + 1 : at + 4 + size].join([bytes([kind]), b""]))
        at += 4 + size
    blocks[-1] = bytes([blocks[-1][0] | 128]) + blocks[-1][1:]
    open(name, "wb").write(data[:4] + b"".join(blocks) + data[at:])
PYTHON
