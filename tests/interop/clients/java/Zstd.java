// zstd as a service of the SDK's `Compressor` interface: the SDK itself brings gzip alone.

import com.github.luben.zstd.ZstdOutputStream;
import io.opentelemetry.sdk.common.export.Compressor;
import java.io.IOException;
import java.io.OutputStream;

public final class Zstd implements Compressor {
  @Override
  public String getEncoding() {
    return "zstd";
  }

  @Override
  public OutputStream compress(OutputStream to) throws IOException {
    return new ZstdOutputStream(to);
  }
}
