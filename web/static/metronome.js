// Keeps the time for a hidden page, whose own timers browsers slow down (cdi_platform::time::steady).
onmessage = ({ data: milliseconds }) => setInterval(() => postMessage(null), milliseconds);
