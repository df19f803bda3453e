#!/bin/sh
# Makes the sample clips and transcripts.tsv in this folder. Needs flite (with its CMU voices slt and rms) and ffmpeg
# (with libopus and libmp3lame). Usage: audio/make.sh
set -eu
cd "$(dirname "$0")"

wav=$(mktemp)
trap 'rm -f "$wav"' EXIT
: > transcripts.tsv

# clip VOICE FILE TEXT [FFMPEG OPTIONS...]
clip() {
    voice=$1 file=$2 text=$3
    shift 3
    flite -voice "$voice" -t "$text" -o "$wav"
    ffmpeg -hide_banner -loglevel error -y -f wav -i "$wav" -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$@" "$file"
    printf '%s\t%s\n' "$file" "$text" >> transcripts.tsv
}

clip slt harbour.wav "the old boat came back to the harbour before the storm" -c:a pcm_s16le
clip rms garden.flac "she planted seven rows of beans behind the garden wall" -c:a flac
clip slt train.opus "if the train is late again we will walk along the river and be home before dinner" -ar 48000 -c:a libopus -b:a 24k
# Two channels, the voice nearer to the left one.
clip rms market.mp3 "fresh bread and yellow apples are sold at the market every friday morning" \
    -af "pan=stereo|c0=0.9*c0|c1=0.5*c0" -ar 44100 -c:a libmp3lame -b:a 64k
