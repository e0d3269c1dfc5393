// The camera: pictures go to the server and come back edited, one at a time. At most 320 pixels wide or high.
decomp.live = {
  stream: null,
  REASONS: {
    NotFoundError: "No camera was found: plug one in, then press Start again.",
    NotAllowedError: "The browser was told not to give the camera to this page: allow it beside the address, then press Start again.",
    NotReadableError: "The camera is used by another program: close that, then press Start again.",
  },

  says(text) { document.querySelector("#live-says").textContent = text; },

  async start() {
    const live = decomp.live;
    live.stop();
    if (!navigator.mediaDevices) return live.says("Browsers give the camera only to pages on this machine and to those that come by https.");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 320 }, height: { ideal: 240 }, facingMode: "user" } });
    } catch (error) {
      return live.says(live.REASONS[error.name] ?? `The camera could not be started (${error.name}).`);
    }
    live.stream = stream;
    const video = document.querySelector(".live video"), output = document.querySelector("#live-picture");
    video.srcObject = stream;
    await video.play();
    const scale = Math.min(1, 320 / Math.max(video.videoWidth, video.videoHeight));
    const width = Math.round(video.videoWidth * scale), height = Math.round(video.videoHeight * scale);
    const input = Object.assign(document.createElement("canvas"), { width, height });
    Object.assign(output, { width, height });
    const since = [];
    while (live.stream === stream) {
      input.getContext("2d").drawImage(video, 0, 0, width, height);
      const body = await new Promise((done) => input.toBlob(done, "image/jpeg", 0.9));
      const answer = await live.sent(body);
      if (live.stream !== stream) break;
      if (!answer?.ok) {
        live.stop();
        return live.says(answer ? await answer.text() : "The server does not answer.");
      }
      output.getContext("2d").drawImage(await createImageBitmap(await answer.blob()), 0, 0);
      since.push(performance.now());
      if (since.length > 20) since.shift();
      const rate = 1000 * (since.length - 1) / (since.at(-1) - since[0]);
      if (since.length > 5) live.says(`${rate.toFixed(0)} pictures a second`);
    }
  },

  sent(body) {
    const session = document.querySelector("#session span").textContent;
    const headers = { "X-Session": session, "X-Settings": JSON.stringify(decomp.asked ?? []) };
    return fetch("gradio_api/live", { method: "POST", body, headers }).catch(() => null);
  },

  stop() {
    decomp.live.stream?.getTracks().forEach((track) => track.stop());
    decomp.live.stream = null;
    decomp.live.says("");
  },
};
addEventListener("visibilitychange", () => { if (document.hidden && decomp.live.stream) decomp.live.stop(); });
