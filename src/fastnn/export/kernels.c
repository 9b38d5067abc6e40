/* fma */
#ifdef FP_FAST_FMA@F@
#define MULTIPLY_ADD(a, b, c) FN(fma)(a, b, c)
#else /* a float as if there was one */
#define MULTIPLY_ADD(a, b, c) ((real)((double)(a) * (double)(b) + (double)(c)))
#endif

/* exponential */
/* e^x without branches, so that compilers compute several at once; as in Cephes */
static inline real exponential(real x) {
    union {
        float value;
        int bits;
    } power;
    real n, r;
    x = x > 88 ? 88 : x;
    x = x < -87 ? -87 : x;
    n = x * (real)1.44269504088896341 + (real)12582912;
    n -= (real)12582912; /* the nearest integer */
    r = x - n * (real)0.693359375 + n * (real)2.12194440e-4;
    power.bits = ((int)n + 127) << 23;
    x = (real)1.9875691500e-4 * r + (real)1.3981999507e-3;
    x = x * r + (real)8.3334519073e-3;
    x = x * r + (real)4.1665795894e-2;
    x = x * r + (real)1.6666665459e-1;
    x = x * r + (real)5.0000001201e-1;
    return (x * r * r + r + 1) * (real)power.value;
}

/* sigmoid: exponential */
static inline real sigmoid(real x) { return 1 / (1 + exponential(-x)); }

/* hyperbolic: exponential */
/* tanh x, by a polynomial where it is small */
static inline real hyperbolic(real x) {
    const real z = x * x, most = 1 - 2 / (1 + exponential(2 * x));
    real small = (real)-5.70498872745e-3 * z + (real)2.06390887954e-2;
    small = small * z - (real)5.37397155531e-2;
    small = small * z + (real)1.33314422036e-1;
    small = small * z - (real)3.33332819422e-1;
    small = small * z * x + x;
    return z < (real)0.390625 ? small : most;
}

/* linear_forward: fma */
/* Some columns of y = x W + b, with W (in, out): a sum of many terms in blocks. */
#define COLUMNS(width)                                                                             \
    static void columns_##width(real *y, const real *x, const real *w, const real *b, int in,      \
                                int out) {                                                         \
        const int block = 2048 / (int)sizeof(real), most = block / 4 * 3;                          \
        const int blocks = in <= block ? 1 : (in + most - 1) / most;                               \
        const int step = ((in + blocks - 1) / blocks + 15) / 16 * 16;                              \
        int i, j, k;                                                                               \
        for (i = 0; i < in; i += step) {                                                           \
            const int end = in - i < step ? in : i + step;                                         \
            real sum[width];                                                                       \
            for (j = 0; j < width; j++) sum[j] = 0;                                                \
            for (k = i; k < end; k++)                                                              \
                for (j = 0; j < width; j++) sum[j] = MULTIPLY_ADD(x[k], w[k * out + j], sum[j]);   \
            for (j = 0; j < width; j++) y[j] = sum[j] + (i ? y[j] : b ? b[j] : 0);                 \
        }                                                                                          \
    }
COLUMNS(1)
COLUMNS(4)
COLUMNS(8)
COLUMNS(16)
COLUMNS(64)

static void linear_forward(real *y, const real *x, const real *w, const real *b, int in, int out,
                           int rows) {
    for (; rows > 0; rows--, x += in, y += out) {
        int j = 0, width;
        for (; j < out; j += width) {
            void (*columns)(real *, const real *, const real *, const real *, int, int);
            width = out - j >= 64 ? 64 : out >= 16 ? 16 : out >= 8 ? 8 : out >= 4 ? 4 : 1;
            columns = width == 64 ? columns_64 : width == 16 ? columns_16 : width == 8 ? columns_8
                    : width == 4 ? columns_4 : columns_1;
            if (j > out - width) j = out - width; /* the last ones once more */
            columns(y + j, x, w + j, b ? b + j : b, in, out);
        }
    }
}

/* linear_backward_input: fma */
/* dx = dy W' */
static void linear_backward_input(real *dx, const real *dy, const real *w, int in, int out,
                                  int rows, int add) {
    int k, j;
    for (; rows > 0; rows--, dx += in, dy += out)
        for (k = 0; k < in; k++) {
            real sum = 0;
            for (j = 0; j < out; j++) sum = MULTIPLY_ADD(dy[j], w[k * out + j], sum);
            dx[k] = add ? dx[k] + sum : sum;
        }
}

/* linear_backward_weight: fma */
/* dW = x' dy, db = the sum of dy */
static void linear_backward_weight(real *dw, real *db, const real *dy, const real *x, int in,
                                   int out, int rows, int add) {
    int i, j, k;
    for (i = 0; i < rows; i++, x += in, dy += out, add = 1) {
        for (j = 0; db && j < out; j++) db[j] = add ? db[j] + dy[j] : dy[j];
        for (k = 0; k < in; k++)
            for (j = 0; j < out; j++)
                dw[k * out + j] = add ? MULTIPLY_ADD(x[k], dy[j], dw[k * out + j]) : x[k] * dy[j];
    }
}

/* lstm_cell: sigmoid hyperbolic */
/* h and c after a step, from the sums of the gates i, f, g, o */
static void lstm_cell(real *y, real *h, real *c, const real *z, int hidden) {
    int j;
    for (j = 0; j < hidden; j++) {
        const real i = sigmoid(z[j]), f = sigmoid(z[hidden + j]);
        const real g = hyperbolic(z[2 * hidden + j]), o = sigmoid(z[3 * hidden + j]);
        c[j] = f * c[j] + i * g;
        y[j] = h[j] = o * hyperbolic(c[j]);
    }
}

/* copy */
static void copy(real *y, const real *x, int n) {
    int i;
    for (i = 0; i < n; i++) y[i] = x[i];
}

/* add_forward */
static void add_forward(real *y, const real *a, const real *b, int n) {
    int i;
    for (i = 0; i < n; i++) y[i] = a[i] + b[i];
}

/* scale_forward */
static void scale_forward(real *y, const real *x, const real *w, int cols, int rows) {
    int j;
    for (; rows > 0; rows--, y += cols, x += cols)
        for (j = 0; j < cols; j++) y[j] = x[j] * w[j];
}

/* scale_backward_weight */
static void scale_backward_weight(real *dw, const real *dy, const real *x, int cols, int rows,
                                  int add) {
    int j;
    for (; rows > 0; rows--, dy += cols, x += cols, add = 1)
        for (j = 0; j < cols; j++) dw[j] = add ? dw[j] + dy[j] * x[j] : dy[j] * x[j];
}

/* copy_columns */
static void copy_columns(real *y, const real *x, int cols, int y_stride, int x_stride, int y_start,
                         int x_start, int rows) {
    int j;
    for (y += y_start, x += x_start; rows > 0; rows--, y += y_stride, x += x_stride)
        for (j = 0; j < cols; j++) y[j] = x[j];
}

/* gather_rows */
static void gather_rows(real *y, const real *table, const real *index, int cols, int rows) {
    int i, j;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++) y[i * cols + j] = table[(int)index[i] * cols + j];
}

/* embedding_backward */
static void embedding_backward(real *dw, const real *dy, const real *index, int cols, int rows,
                               int size, int add) {
    int i, j;
    for (i = 0; !add && i < size * cols; i++) dw[i] = 0;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++) dw[(int)index[i] * cols + j] += dy[i * cols + j];
}

/* softmax_forward */
static void softmax_forward(real *y, const real *x, int cols, int rows) {
    int j;
    for (; rows > 0; rows--, x += cols, y += cols) {
        real top = x[0], sum = 0;
        for (j = 1; j < cols; j++) top = x[j] > top ? x[j] : top;
        for (j = 0; j < cols; j++) sum += y[j] = FN(exp)(x[j] - top);
        for (j = 0; j < cols; j++) y[j] /= sum;
    }
}

/* softmax_backward */
static void softmax_backward(real *dx, const real *dy, const real *y, int cols, int rows) {
    int j;
    for (; rows > 0; rows--, dx += cols, dy += cols, y += cols) {
        real sum = 0;
        for (j = 0; j < cols; j++) sum += dy[j] * y[j];
        for (j = 0; j < cols; j++) dx[j] = y[j] * (dy[j] - sum);
    }
}

/* log_softmax_forward */
static void log_softmax_forward(real *y, const real *x, int cols, int rows) {
    int j;
    for (; rows > 0; rows--, x += cols, y += cols) {
        real top = x[0], sum = 0;
        for (j = 1; j < cols; j++) top = x[j] > top ? x[j] : top;
        for (j = 0; j < cols; j++) sum += FN(exp)(x[j] - top);
        sum = FN(log)(sum);
        for (j = 0; j < cols; j++) y[j] = x[j] - top - sum;
    }
}

/* log_softmax_backward */
static void log_softmax_backward(real *dx, const real *dy, const real *y, int cols, int rows) {
    int j;
    for (; rows > 0; rows--, dx += cols, dy += cols, y += cols) {
        real sum = 0;
        for (j = 0; j < cols; j++) sum += dy[j];
        for (j = 0; j < cols; j++) dx[j] = dy[j] - FN(exp)(y[j]) * sum;
    }
}

/* layer_norm_forward */
/* The mean is the sum of two numbers: the first element, and what is left. */
static void layer_norm_forward(real *y, real *mean, real *tail, real *rstd, const real *x,
                               const real *w, const real *b, int cols, double eps, int rows) {
    int i, j;
    for (i = 0; i < rows; i++, x += cols, y += cols) {
        const real origin = x[0];
        real shift = 0, squares = 0;
        for (j = 0; j < cols; j++) shift += x[j] - origin;
        shift /= (real)cols;
        for (j = 0; j < cols; j++) {
            const real d = x[j] - origin - shift;
            squares += d * d;
        }
        mean[i] = origin;
        tail[i] = shift;
        rstd[i] = 1 / FN(sqrt)(squares / (real)cols + (real)eps);
        for (j = 0; j < cols; j++) {
            const real h = (x[j] - origin - shift) * rstd[i];
            y[j] = (w ? h * w[j] : h) + (b ? b[j] : 0);
        }
    }
}

/* layer_norm_backward */
static void layer_norm_backward(real *dx, const real *dy, const real *x, const real *w,
                                const real *mean, const real *tail, const real *rstd, int cols,
                                int rows) {
    int i, j;
    for (i = 0; i < rows; i++, dx += cols, dy += cols, x += cols) {
        real sum = 0, product = 0;
        for (j = 0; j < cols; j++) {
            const real g = w ? dy[j] * w[j] : dy[j];
            sum += g;
            product += g * (x[j] - mean[i] - tail[i]) * rstd[i];
        }
        sum /= (real)cols;
        product /= (real)cols;
        for (j = 0; j < cols; j++) {
            const real g = w ? dy[j] * w[j] : dy[j];
            dx[j] = rstd[i] * (g - sum - (x[j] - mean[i] - tail[i]) * rstd[i] * product);
        }
    }
}

/* layer_norm_backward_weight */
static void layer_norm_backward_weight(real *dw, real *db, const real *dy, const real *x,
                                       const real *mean, const real *tail, const real *rstd,
                                       int cols, int rows, int add) {
    int i, j;
    for (i = 0; i < rows; i++, dy += cols, x += cols, add = 1)
        for (j = 0; j < cols; j++) {
            const real g = dy[j] * (x[j] - mean[i] - tail[i]) * rstd[i];
            dw[j] = add ? dw[j] + g : g;
            db[j] = add ? db[j] + dy[j] : dy[j];
        }
}

/* batch_norm_inference */
static void batch_norm_inference(real *y, const real *x, const real *mean, const real *var,
                                 const real *w, const real *b, int channels, int length,
                                 double eps) {
    int c, i;
    for (c = 0; c < channels; c++, x += length, y += length) {
        const real scale = (w ? w[c] : 1) / FN(sqrt)(var[c] + (real)eps);
        for (i = 0; i < length; i++) y[i] = (x[i] - mean[c]) * scale + (b ? b[c] : 0);
    }
}

/* dropout_forward */
/* Philox4x32-10 (Salmon et al., SC 2011): word i % 4 of block i / 4 is element i's. */
static void dropout_forward(real *y, unsigned char *mask, const real *x, unsigned long long *state,
                            int cols, double p, int rows) {
    const unsigned long long low = 0xffffffffu, least = (unsigned long long)(p * 4294967296.0);
    unsigned long long word[4] = {0, 0, 0, 0};
    int i, round;
    for (i = 0; i < rows * cols; i++) {
        if (i % 4 == 0) {
            unsigned long long k0 = state[0] & low, k1 = state[0] >> 32;
            word[0] = (unsigned long long)(i / 4);
            word[1] = 0;
            word[2] = state[1] & low;
            word[3] = state[1] >> 32;
            for (round = 0; round < 10; round++) {
                const unsigned long long a = word[0] * 0xD2511F53u, b = word[2] * 0xCD9E8D57u;
                word[0] = (b >> 32) ^ word[1] ^ k0;
                word[1] = b & low;
                word[2] = (a >> 32) ^ word[3] ^ k1;
                word[3] = a & low;
                k0 = (k0 + 0x9E3779B9u) & low;
                k1 = (k1 + 0xBB67AE85u) & low;
            }
        }
        mask[i] = word[i % 4] >= least;
        y[i] = mask[i] ? x[i] * (real)(1 / (1 - p)) : 0;
    }
}

/* dropout_backward */
static void dropout_backward(real *dx, const real *dy, const unsigned char *mask, int cols,
                             double p, int rows) {
    int i;
    for (i = 0; i < rows * cols; i++) dx[i] = mask[i] ? dy[i] * (real)(1 / (1 - p)) : 0;
}

/* mse_loss */
static double mse_loss(real *dpred, const real *pred, const real *target, int cols, double scale,
                       int rows) {
    double loss = 0;
    int i;
    for (i = 0; i < rows * cols; i++) {
        const real error = pred[i] - target[i];
        loss += (double)(error * error);
        dpred[i] = 2 * error * (real)scale;
    }
    return loss * scale;
}

/* l1_loss */
static double l1_loss(real *dpred, const real *pred, const real *target, int cols, double scale,
                      int rows) {
    double loss = 0;
    int i;
    for (i = 0; i < rows * cols; i++) {
        const real error = pred[i] - target[i];
        loss += (double)FN(fabs)(error);
        dpred[i] = (real)scale * (real)((error > 0) - (error < 0));
    }
    return loss * scale;
}

/* huber_loss */
static double huber_loss(real *dpred, const real *pred, const real *target, int cols, double scale,
                         double delta, int rows) {
    double loss = 0;
    int i;
    for (i = 0; i < rows * cols; i++) {
        const real error = pred[i] - target[i], most = (real)delta;
        const real clipped = error > most ? most : error < -most ? -most : error;
        loss += (double)(clipped * (error - clipped / 2));
        dpred[i] = clipped * (real)scale;
    }
    return loss * scale;
}

/* poisson_nll_loss */
static double poisson_nll_loss(real *dpred, const real *pred, const real *target, int cols,
                               double scale, int rows) {
    double loss = 0;
    int i;
    for (i = 0; i < rows * cols; i++) {
        const real rate = FN(exp)(pred[i]);
        loss += (double)(rate - target[i] * pred[i]);
        dpred[i] = (rate - target[i]) * (real)scale;
    }
    return loss * scale;
}

/* binary_cross_entropy_with_logits_loss: sigmoid */
static double binary_cross_entropy_with_logits_loss(real *dpred, const real *pred,
                                                    const real *target, int cols, double scale,
                                                    int rows) {
    double loss = 0;
    int i;
    for (i = 0; i < rows * cols; i++) {
        const real x = pred[i];
        loss += (double)((x > 0 ? x : 0) - x * target[i] + FN(log1p)(FN(exp)(-FN(fabs)(x))));
        dpred[i] = (sigmoid(x) - target[i]) * (real)scale;
    }
    return loss * scale;
}

/* quantile_loss */
static double quantile_loss(real *dpred, const real *pred, const real *target,
                            const real *quantiles, int cols, double scale, int rows) {
    double loss = 0;
    int i, j;
    for (i = 0; i < rows; i++)
        for (j = 0; j < cols; j++) {
            const real error = pred[i * cols + j] - target[i];
            const real slope = error > 0 ? 1 - quantiles[j] : error < 0 ? -quantiles[j] : 0;
            loss += (double)(slope * error);
            dpred[i * cols + j] = slope * (real)scale;
        }
    return loss * scale;
}

/* gaussian_nll_loss */
static double gaussian_nll_loss(real *dpred, const real *pred, const real *target, int cols,
                                double scale, int rows) {
    double loss = 0;
    int j;
    for (; rows > 0; rows--, dpred += 2 * cols, pred += 2 * cols, target += cols)
        for (j = 0; j < cols; j++) {
            const real error = pred[j] - target[j], precision = FN(exp)(-pred[cols + j]);
            const real square = error * error * precision;
            loss += (double)((pred[cols + j] + square) / 2);
            dpred[j] = error * precision * (real)scale;
            dpred[cols + j] = (1 - square) / 2 * (real)scale;
        }
    return loss * scale;
}

/* cross_entropy_loss */
/* A label is a number; scale is 1 / samples, 1, or 0 for a mean over what the labels weigh. */
static double cross_entropy_loss(real *dpred, const real *pred, const real *label,
                                 const real *weight, int cols, int ignores, int ignored,
                                 double scale, double smoothing, int rows) {
    double loss = 0, total = 0;
    int i, j;
    for (i = 0; i < rows; i++, dpred += cols, pred += cols) {
        const int hit = (int)label[i];
        real top = pred[0], sum = 0, all = 0;
        for (j = 0; j < cols; j++) dpred[j] = 0;
        if (ignores && hit == ignored) continue;
        total += weight ? (double)weight[hit] : 1;
        for (j = 1; j < cols; j++) top = pred[j] > top ? pred[j] : top;
        for (j = 0; j < cols; j++) sum += FN(exp)(pred[j] - top);
        sum = FN(log)(sum);
        for (j = 0; j < cols; j++) {
            const real share = (real)(1 - smoothing) * (real)(j == hit) + (real)(smoothing / cols);
            dpred[j] = weight ? weight[j] * share : share;
            all += dpred[j];
        }
        for (j = 0; j < cols; j++) {
            const real y = pred[j] - top - sum, share = dpred[j];
            if (share != 0) loss -= (double)(share * y);
            dpred[j] = FN(exp)(y) * all - share;
        }
    }
    if (scale == 0) scale = total != 0 ? 1 / total : 0;
    for (i = 0; i < rows * cols; i++) *--dpred *= (real)scale;
    return total != 0 ? loss * scale : NAN;
}

/* norm_of */
static double norm_of(const real *x, int n) {
    double sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* SGD */
static void sgd(real *x, const real *g, real *v, int n, double lr, double momentum, double gain,
                int nesterov, int in_velocity, double decay) {
    int i;
    for (i = 0; i < n; i++) {
        real d = g[i] + (real)decay * x[i];
        if (in_velocity) d *= -(real)lr;
        if (v) {
            v[i] = (real)momentum * v[i] + (real)gain * d;
            d = nesterov ? d + (real)momentum * v[i] : v[i];
        }
        x[i] -= (in_velocity ? -1 : (real)lr) * d;
    }
}

/* NAG */
static void nag(real *x, const real *g, real *v, int n, double lr, double momentum, double decay) {
    int i;
    for (i = 0; i < n; i++) {
        const real before = v[i];
        v[i] = (real)momentum * before - (real)lr * (g[i] + (real)decay * x[i]);
        x[i] += (real)(1 + momentum) * v[i] - (real)momentum * before;
    }
}

/* Adagrad */
static void adagrad(real *x, const real *g, real *sum, int n, double lr, double eps, int inside,
                    double decay) {
    int i;
    for (i = 0; i < n; i++) {
        const real d = g[i] + (real)decay * x[i];
        sum[i] += d * d;
        x[i] -= (real)lr * d /
                (inside ? FN(sqrt)(sum[i] + (real)eps) : FN(sqrt)(sum[i]) + (real)eps);
    }
}

/* RMSprop */
static void rmsprop(real *x, const real *g, real *s, real *a, real *v, int n, double lr,
                    double alpha, double eps, int inside, double momentum, double decay) {
    int i;
    for (i = 0; i < n; i++) {
        const real d = g[i] + (real)decay * x[i];
        real variance, step;
        s[i] = (real)alpha * s[i] + (real)(1 - alpha) * d * d;
        variance = s[i];
        if (a) {
            a[i] = (real)alpha * a[i] + (real)(1 - alpha) * d;
            variance -= a[i] * a[i];
            if (variance < 0) variance = 0;
        }
        step = d / (inside ? FN(sqrt)(variance + (real)eps) : FN(sqrt)(variance) + (real)eps);
        if (v) step = v[i] = (real)momentum * v[i] + step;
        x[i] -= (real)lr * step;
    }
}

/* Adam */
/* rate: of the bias-corrected first moment; root: the factor of the root of the second one */
static void adam(real *x, const real *g, real *m, real *v, real *largest, int n, double rate,
                 double root, double beta1, double beta2, double eps, int inside, double shrink,
                 double decay) {
    int i;
    for (i = 0; i < n; i++) {
        const real d = g[i] + (real)decay * x[i];
        real square;
        m[i] = (real)beta1 * m[i] + (real)(1 - beta1) * d;
        v[i] = (real)beta2 * v[i] + (real)(1 - beta2) * d * d;
        square = v[i];
        if (largest) square = largest[i] = largest[i] > square ? largest[i] : square;
        square = inside ? FN(sqrt)(square * (real)(root * root) + (real)eps)
                        : FN(sqrt)(square) * (real)root + (real)eps;
        x[i] = (real)shrink * x[i] - (real)rate * m[i] / square;
    }
}

/* Lion */
static void lion(real *x, const real *g, real *m, int n, double lr, double beta1, double beta2,
                 double decay) {
    int i;
    for (i = 0; i < n; i++) {
        const real u = (real)beta1 * m[i] + (real)(1 - beta1) * g[i];
        x[i] -= (real)lr * ((real)((u > 0) - (u < 0)) + (real)decay * x[i]);
        m[i] = (real)beta2 * m[i] + (real)(1 - beta2) * g[i];
    }
}

/* LAMB */
static void lamb(real *x, const real *g, real *m, real *v, int n, double lr, double beta1,
                 double beta2, double inverse1, double inverse2, double eps, int inside,
                 double decay) {
    double length = 0, change = 0, ratio = 1;
    int i, pass;
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < n; i++) {
            real square, u;
            if (pass == 0) {
                m[i] = (real)beta1 * m[i] + (real)(1 - beta1) * g[i];
                v[i] = (real)beta2 * v[i] + (real)(1 - beta2) * g[i] * g[i];
            }
            square = v[i] * (real)inverse2;
            square = inside ? FN(sqrt)(square + (real)eps) : FN(sqrt)(square) + (real)eps;
            u = m[i] * (real)inverse1 / square + (real)decay * x[i];
            if (pass == 1) {
                x[i] -= (real)(lr * ratio) * u;
            } else {
                length += (double)x[i] * (double)x[i];
                change += (double)u * (double)u;
            }
        }
        if (length > 0 && change > 0) ratio = sqrt(length / change);
    }
}
