// SPDX-License-Identifier: Apache-2.0
// How far a run is, for those who ask, and what is to be said of it afterwards.

const PROBLEMS_MAX = 10;
const PROBLEM_CHARS_MAX = 400;

export class Progress {
  volumes = 0;
  volumesDone = 0;
  destroyed = 0;
  /** Of all steps, as they went over the wire. */
  bytes = 0;
  /** The volume, by key, and the snapshot that is being sent. */
  volume: string | undefined;
  snapshot: string | undefined;
  stepBytes = 0;
  /** Undefined: not told. */
  stepBytesTotal: number | undefined;
  readonly problems: string[] = [];
  /** Beyond those that are kept. */
  problemsMore = 0;

  begin(volume: string): void {
    this.volume = volume;
    this.step(undefined, undefined);
  }

  step(snapshot: string | undefined, bytesTotal: number | undefined): void {
    this.snapshot = snapshot;
    this.stepBytes = 0;
    this.stepBytesTotal = bytesTotal;
  }

  moved(bytes: number): void {
    this.bytes += bytes;
    this.stepBytes += bytes;
  }

  addProblem(sentence: string): void {
    if (this.problems.length < PROBLEMS_MAX) {
      this.problems.push(sentence.slice(0, PROBLEM_CHARS_MAX));
    } else this.problemsMore++;
  }
}
